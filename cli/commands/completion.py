"""``synthtrack completion``: the script that a shell sources, and what that script asks for at each key."""

from __future__ import annotations

import os
import sys

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    split_arg_string,
)

from cli.render import show

VARIABLE = "_SYNTHTRACK_COMPLETE"
PROGRAM = "synthtrack"
# Within quotes readline knows best what to do with a name, if it takes it for that of a file; but then it takes a
# directory of the same name for what is meant, and leaves dollars bare.
_BASH = r"""%(complete_func)s() {
    local type value quoted=() IFS=''
    COMPREPLY=()
    while IFS=',' read -r type value; do
        case "$type" in
            plain) COMPREPLY+=("$value") ;;
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
        esac
    done < <(COMP_TYPED="${COMP_LINE:0:$COMP_POINT}" COMP_WORD="$2" %(complete_var)s=bash_complete \
        "${1/#\~/$HOME}" 2>/dev/null)
    if [[ "${COMPREPLY[*]}" == *[!A-Za-z0-9_./@%%+,:=-]* ]]; then
        if [[ "${COMP_WORDS[COMP_CWORD]}" == [\"\']* ]]; then
            compopt -o filenames
        else
            for value in "${COMPREPLY[@]}"; do
                quoted+=("$(printf %%q "$value")")
            done
            COMPREPLY=("${quoted[@]}")
        fi
    fi
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""
_FISH = r"""function %(complete_func)s
    set -l response (env %(complete_var)s=fish_complete COMP_WORDS=(commandline -cp | string collect) \
        COMP_CWORD=(commandline -t | string collect) %(prog_name)s 2>/dev/null)
    for completion in $response
        set -l parts (string split -m 1 "," -- $completion)
        switch $parts[1]
            case dir
                __fish_complete_directories $parts[2]
            case file
                __fish_complete_path $parts[2]
            case plain
                printf "%%s\n" $parts[2]
        end
    end
end
complete --no-files --keep-order --command %(prog_name)s --arguments "(%(complete_func)s)"
"""


class Bash(BashComplete):
    """Reads the line itself, because bash takes it apart at colons and equals signs."""

    source_template = _BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        # With one letter more the last word ends neither in a blank nor in an open quote.
        words = split_arg_string(f"{os.environ['COMP_TYPED']}x")
        self._typed = words[-1][:-1]
        return words[1:-1], self._typed

    def format_completion(self, item: CompletionItem) -> str:
        own = split_arg_string(os.environ.get("COMP_WORD", ""))
        before = self._typed.removesuffix(own[0] if own else "")
        # What stands before the word that bash completes is there already.
        value = str(item.value)
        shown = value.removeprefix(before) if before.endswith((":", "=")) else value
        return f"{item.type},{shown}"


class _Whole(ShellComplete):
    """Gives the word as a whole, since these shells replace all of ``--batch=b``."""

    def get_completion_args(self) -> tuple[list[str], str]:
        args, incomplete = super().get_completion_args()
        name, equals, _ = incomplete.partition("=")
        self._before = name + equals if equals and name.startswith("--") else ""
        return args, incomplete

    def format_completion(self, item: CompletionItem) -> str:
        item.value = f"{self._before}{item.value}" if item.type == "plain" else item.value
        return super().format_completion(item)


class Zsh(_Whole, ZshComplete):
    """Click's own script."""


class Fish(_Whole, FishComplete):
    """Keeps commas in names."""

    source_template = _FISH


SHELLS: dict[str, type[ShellComplete]] = {"bash": Bash, "zsh": Zsh, "fish": Fish}


@click.command()
@click.argument("shell", type=click.Choice(list(SHELLS)))
@click.pass_context
def completion(context: click.Context, *, shell: str) -> None:
    r"""Print what makes the TAB key complete commands, options and names in bash, zsh or fish.

    \b
    For bash, add to ~/.bashrc:
        eval "$(synthtrack completion bash)"

    \b
    For zsh, add to ~/.zshrc, after compinit:
        eval "$(synthtrack completion zsh)"

    \b
    For fish, once:
        synthtrack completion fish > ~/.config/fish/completions/synthtrack.fish
    """
    found = SHELLS[shell](context.find_root().command, {}, PROGRAM, VARIABLE)
    show((found.source_template % found.source_vars()).strip())


def complete(cli: click.Command, instruction: str) -> int:
    """Prints what the line that is being typed can become, for the script of a shell; 0 always."""
    shell = SHELLS.get(instruction.partition("_")[0])
    if shell is not None:
        try:
            sys.stdout.write(f"{shell(cli, {}, PROGRAM, VARIABLE).complete()}\n")
            sys.stdout.flush()
        except Exception:  # noqa: BLE001, S110  whatever is wrong, it must not spoil the line that is being typed
            pass
    return 0
