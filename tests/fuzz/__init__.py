"""Commands on what nobody would write on purpose: each must end in words and an exit code, inside its workspace.

The properties are in ``cage``: no traceback, no hang, no file outside the workspace, and, where the input was refused,
no row more than before. What was found is kept as examples beside each property. `make test` tries a few dozen
examples of each, `make soak` thousands.
"""
