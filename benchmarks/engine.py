"""How fast the engine is, beside a bare loop and beside curator: ``python -m benchmarks.engine --curator-python PATH``.

Each client runs in a process of its own against one local server that answers after 50 ms; medians over the rounds, in
which the clients take turns. Time and CPU are those of the work itself (imports and set-up are not in them), and for
the engine they end when every answer is committed. The storm is a server that admits 50 requests at once and answers
429 to the others. Everything is printed as markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tests.llm_server import Server, running_server

ROOT = Path(__file__).parents[1]
NAMES = {
    "aiohttp": "bare aiohttp loop",
    "sdk": "bare loop of the same SDK client",
    "engine": "synthtrack's engine, every answer durable",
    "curator": "curator",
}


@dataclass(frozen=True)
class Measured:
    """One run of one client."""

    per_second: float
    cpu_ms: float
    peak_mb: float
    refused: int
    version: str | None


def measure(client: list[str], server: Server, prompts: list[str], in_flight: int) -> Measured:
    """Runs a client on the prompts. Raises where it does not get every answer."""
    server.reset()
    options = {"base_url": server.base_url, "prompts": prompts, "in_flight": in_flight}
    done = subprocess.run(client, input=json.dumps(options), capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(client)} failed:\n{done.stderr[-3000:]}")
    found = json.loads(done.stdout.strip().splitlines()[-1])
    if found["answered"] != len(prompts):
        raise RuntimeError(f"{' '.join(client)} got {found['answered']} of {len(prompts)} answers")
    return Measured(
        per_second=len(prompts) / found["seconds"],
        cpu_ms=1000 * found["cpu_s"] / len(prompts),
        peak_mb=found["peak_mb"],
        refused=server.stats()["rejected_429"],
        version=found.get("version"),
    )


def rounds(
    clients: dict[str, list[str]], server: Server, prompts: list[str], in_flight: int, times: int
) -> dict[str, list[Measured]]:
    """Every client ``times`` times, in turns, so that what else the machine does meets them all."""
    results: dict[str, list[Measured]] = {name: [] for name in clients}
    for _ in range(times):
        for name, client in clients.items():
            results[name].append(measure(client, server, prompts, in_flight))
    return results


def speed_table(results: dict[str, list[Measured]]) -> str:
    """Medians, one client a row."""
    lines = ["| client | requests/s | CPU ms/request | peak MB |", "|---|---|---|---|"]
    for name, runs in results.items():
        per_second, cpu, peak = (
            statistics.median(getattr(run, column) for run in runs) for column in ("per_second", "cpu_ms", "peak_mb")
        )
        lines.append(f"| {NAMES[name]} | {per_second:,.0f} | {cpu:.2f} | {peak:.0f} |")
    return "\n".join(lines)


def storm_table(results: dict[str, list[Measured]]) -> str:
    """Medians, one client a row, with the worst run."""
    lines = ["| client | wasted calls (worst) | requests/s |", "|---|---|---|"]
    for name, runs in results.items():
        refused = [run.refused for run in runs]
        per_second = statistics.median(run.per_second for run in runs)
        lines.append(f"| {NAMES[name]} | {statistics.median(refused):.0f} ({max(refused)}) | {per_second:,.0f} |")
    return "\n".join(lines)


def machine(results: dict[str, list[Measured]], load: float) -> str:
    """What the figures were measured on and with."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("aiohttp", "openai", "sqlalchemy"))
    others = {run.version for runs in results.values() for run in runs if run.version}
    return (
        f"{os.cpu_count()} cores of {platform.machine()}, {platform.system()}, Python {platform.python_version()}, "
        f"{', '.join([packages, *sorted(others)])}; load before the run {load:.1f}"
    )


def main() -> None:
    """Measures, then prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__.splitlines()[0])
    parser.add_argument("--curator-python", type=Path, help="a Python that has bespokelabs-curator")
    parser.add_argument("--prompts", type=int, default=2000)
    parser.add_argument("--in-flight", type=int, default=200)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without-storm", action="store_true")
    options = parser.parse_args()
    prompts = [f"Rephrase sentence {n}: The man turned on the faucet of bathtub {n}." for n in range(options.prompts)]
    ours = {name: [sys.executable, "-m", "benchmarks.clients", name] for name in ("aiohttp", "sdk", "engine")}
    curator = [str(options.curator_python), str(Path(__file__).with_name("curator_client.py"))]
    others = {"curator": curator} if options.curator_python else {}
    load = os.getloadavg()[0]
    with running_server(latency=options.latency) as server:
        speed = rounds(ours | others, server, prompts, options.in_flight, options.rounds)
    print(
        f"{len(prompts):,} prompts, {1000 * options.latency:g} ms, {options.in_flight} in flight, medians of ", end=""
    )
    print(f"{options.rounds}; {machine(speed, load)}\n\n{speed_table(speed)}")
    if options.without_storm:
        return
    with running_server(latency=options.latency, max_in_flight=50) as server:
        stormy = {"engine": ours["engine"]} | others
        storm = rounds(stormy, server, prompts[:1000], options.in_flight, options.rounds)
    print(f"\nStorm: 1,000 prompts, the server admits 50 at once, {options.in_flight} wanted\n\n{storm_table(storm)}")


if __name__ == "__main__":
    main()
