"""What every section of figures says first: what was measured, on what, when, and what else the machine was doing."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime


def heading(what: str, **versions: str) -> str:
    """The line above a table; ``versions`` of what is compared with."""
    named = "".join(f", {name} {version}" for name, version in versions.items())
    return (
        f"{what}; {os.cpu_count()} cores of {platform.machine()}, {platform.system()}, Python "
        f"{platform.python_version()}{named}; {datetime.now(UTC):%Y-%m-%d}; load before the run "
        f"{os.getloadavg()[0]:.1f}"
    )
