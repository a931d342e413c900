"""What the soak says at its end."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.faults.trials import AFTER, BEFORE, WITHIN


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """How often each subject was killed, when, and how many of its trials found something."""
    if "soak" not in config.getoption("markexpr").replace("not soak", ""):
        return
    hits: dict[str, Counter[str]] = {}
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            name, *found = dict(report.user_properties).get("kills") or [None]
            if name is not None and report.when == "call":
                hits.setdefault(str(name), Counter()).update([*map(str, found), outcome])
    if not hits:
        return
    shown = (BEFORE, WITHIN, AFTER, "passed", "failed")
    terminalreporter.section("kills")
    terminalreporter.line(f"{'':22}{''.join(f'{each:>8}' for each in shown)}")
    for name, counted in [*sorted(hits.items()), ("all", sum(hits.values(), Counter()))]:
        terminalreporter.line(f"{name:22}{''.join(f'{counted[each]:8}' for each in shown)}")
    terminalreporter.line("before: nothing had been changed yet; within: something had; after: it had ended by itself")
