"""How fast `perspectives` is as a whole, beside a bare loop of the same client: ``python -m benchmarks.perspectives``.

The same requests to one local server that answers after 50 ms, each client in a process of its own, in turns; medians
over the rounds. `perspectives` makes a data set in a fresh workspace each time. Seconds count from the first request
to the last answer, to the finished run (every answer durable, figures of every condition) and to the file; a ratio is
the median of what the rounds gave. Everything is printed as markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.llm_server import Server, running_server

ROOT = Path(__file__).parents[1]
NAMES = {
    "aiohttp": "bare aiohttp loop",
    "sdk": "bare loop of the same SDK client",
    "perspectives": "`perspectives`, every answer durable",
}
PERSPECTIVES = 4
Found = dict[str, Any]
KINDS: dict[str, Found] = {
    "": {"notes": False, "references": False},
    " of which half take notes first": {"notes": True, "references": False},
    ", inputs with references (chrF)": {"notes": False, "references": True},
}


def measure(client: str, server: Server, given: Found) -> Found:
    """Runs a client. Raises where it does not get every answer, or asks otherwise than once for each."""
    server.reset()
    command = [sys.executable, "-m", "benchmarks.agents_client", client]
    given = given | {"base_url": server.base_url}
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        raise RuntimeError(f"{client} failed:\n{done.stderr[-3000:]}")
    found: Found = json.loads(done.stdout.strip().splitlines()[-1])
    asked, wanted = server.stats()["received"], (given["inputs"] * PERSPECTIVES, calls(given))
    if (found["answered"], asked) != wanted:
        raise RuntimeError(f"{client}: {found['answered']} answers of {asked} requests, not {wanted}")
    return found


def calls(given: Found) -> int:
    """How many requests there are: with notes, half of the agents ask twice."""
    per_input = PERSPECTIVES + (PERSPECTIVES // 2 if given["notes"] else 0)
    return int(given["inputs"]) * per_input


def table(rounds: list[dict[str, Found]], n_calls: int) -> str:
    """Medians, one client a row; ratios are to the bare loop of the same client in the same round."""
    columns = ["to the last answer, s", "to the finished run, s", "of the bare loop", "with the file, s"]
    columns += ["calls/s", "CPU ms/call"]
    lines = [f"| client | {' | '.join(columns)} |", f"|---{'|---:' * len(columns)}|"]
    for client in rounds[0]:
        seconds = {name: _median(each[client].get(name) for each in rounds) for name in ("answers_s", "file_s")}
        run = statistics.median(each[client]["run_s"] for each in rounds)
        ratio = statistics.median(each[client]["run_s"] / each["sdk"]["run_s"] for each in rounds)
        cpu = statistics.median(each[client]["cpu_s"] for each in rounds)
        lines.append(
            f"| {NAMES[client]} | {seconds['answers_s']} | {run:.2f} | {ratio:.2f} | {seconds['file_s']} "
            f"| {n_calls / run:,.0f} | {1000 * cpu / n_calls:.2f} |"
        )
    return "\n".join(lines)


def _median(seconds: Iterable[float | None]) -> str:
    known = [each for each in seconds if each is not None]
    return f"{statistics.median(known):.2f}" if known else ""


def machine(load: float) -> str:
    """What the figures were measured on and with."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("aiohttp", "openai", "sqlalchemy"))
    return (
        f"{os.cpu_count()} cores of {platform.machine()}, {platform.system()}, Python {platform.python_version()}, "
        f"{packages}; load before the run {load:.1f}"
    )


def main() -> None:
    """Measures, then prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.perspectives", description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--in-flight", type=int, default=200)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--spread", action="store_true", help="print every round's ratio too")
    options = parser.parse_args()
    for what, kind in KINDS.items():
        per_input = calls(kind | {"inputs": 1})
        given = kind | {"inputs": options.calls // per_input, "in_flight": options.in_flight}
        load = os.getloadavg()[0]
        with running_server(latency=options.latency) as server:
            rounds = [{client: measure(client, server, given) for client in NAMES} for _ in range(options.rounds)]
        print(
            f"{given['inputs']:,} inputs, {PERSPECTIVES} perspectives{what}: {calls(given):,} calls, "
            f"{1000 * options.latency:g} ms, {options.in_flight} in flight, medians of {options.rounds}; "
            f"{machine(load)}\n\n{table(rounds, calls(given))}\n"
        )
        if options.spread:
            ratios = sorted(each["perspectives"]["run_s"] / each["sdk"]["run_s"] for each in rounds)
            print(f"Ratios of the rounds: {', '.join(f'{ratio:.2f}' for ratio in ratios)}\n")


if __name__ == "__main__":
    main()
