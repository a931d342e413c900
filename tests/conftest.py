"""Settings of all tests."""

import os
import signal

from hypothesis import HealthCheck, settings

# Workers share the cores: threads of one that wait for a core of another cost many times what they save.
os.environ["OMP_NUM_THREADS"] = "1"

# What a script's background job or nohup ignores, processes that tests start would ignore:
# handlers they do not inherit. Of Ctrl-C it is Python's own, which tests within this process need.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)

# A machine under load is slow, and that is no failure.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# `make soak` asks for it with --hypothesis-profile.
settings.register_profile("soak", settings.get_profile("patient"), max_examples=3000, print_blob=True)
settings.load_profile("patient")
