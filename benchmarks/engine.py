"""How fast the engine is, beside bare loops and beside curator: ``python -m benchmarks.engine --curator-python PATH``.

Each client runs in a process of its own against one local server; medians over the rounds, in which the clients take
turns. Time and CPU are those of the work itself (imports and set-up are not in them), and for the engine they end when
every answer is committed. The storm is a server that admits 50 requests at once and answers 429 to the others; the
limits are servers that allow so many requests or tokens in a span. Everything is printed as markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.llm_server import Server, running_server

ROOT = Path(__file__).parents[1]
NAMES = {
    "aiohttp": "bare aiohttp loop",
    "path": "bare loop of the engine's client",
    "engine": "synthtrack's engine, every answer durable",
    "engine_again": "the same, once it knows the endpoint",
    "sdk_aiohttp": "openai SDK over aiohttp",
    "sdk_httpx": "openai SDK over httpx",
    "curator": "curator",
}
STORMY = ("engine", "curator")


@dataclass(frozen=True)
class Limited:
    """A server that allows ``limit`` in ``span`` seconds: what it says of it, and how much that is in a whole run."""

    words: str
    options: dict[str, Any]
    tokens: bool = False

    def allowed(self, limit: float, span: float, seconds: float) -> float:
        """What it gives in ``seconds``: a bucket is full at the start, a window gives back at its end."""
        refilled = int(seconds / span) * limit if "fixed_windows" in self.options else seconds / span * limit
        return limit + refilled


LIMITS = (
    Limited("requests, a bucket, told by headers", {}),
    Limited("requests, fixed windows, told by headers", {"fixed_windows": True}),
    Limited("requests, a bucket, Retry-After alone", {"only_retry_after": True}),
    Limited("requests, fixed windows, Retry-After alone", {"fixed_windows": True, "only_retry_after": True}),
    Limited("tokens, a bucket, told by headers", {}, tokens=True),
    Limited("tokens, fixed windows, told by headers", {"fixed_windows": True}, tokens=True),
)


@dataclass(frozen=True)
class Measured:
    """One run of one client; ``bytes_per_call`` is None for whoever keeps nothing."""

    per_second: float
    cpu_ms: float
    peak_mb: float
    refused: int
    bytes_per_call: float | None = None
    parts: dict[str, int] = field(default_factory=dict)
    version: str | None = None


def ask(client: list[str], server: Server, options: dict[str, Any]) -> dict[str, Any]:
    """What a client says of its run. Raises where it fails."""
    server.reset()
    given = json.dumps(options | {"base_url": server.base_url})
    done = subprocess.run(client, input=given, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(client)} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def measure(client: list[str], server: Server, prompts: Sequence[str], in_flight: int) -> Measured:
    """Runs a client on the prompts. Raises where it does not get every answer, or asks twice for one."""
    found = ask(client, server, {"prompts": prompts, "in_flight": in_flight})
    stats = server.stats()
    answered, asked = found["answered"], stats["received"] - stats["rejected_429"]
    # curator asks once more beforehand, to see what the server's headers say.
    if answered != len(prompts) or asked - answered not in (0, 1):
        raise RuntimeError(f"{' '.join(client)} got {answered} answers to {asked} requests, not {len(prompts)}")
    return Measured(
        per_second=len(prompts) / found["seconds"],
        cpu_ms=1000 * found["cpu_s"] / len(prompts),
        peak_mb=found["peak_mb"],
        refused=stats["rejected_429"],
        bytes_per_call=found["bytes"] / len(prompts) if "bytes" in found else None,
        parts=found.get("parts", {}),
        version=found.get("version"),
    )


def rounds(
    clients: dict[str, list[str]], server: Server, prompts: Sequence[str], in_flight: int, times: int
) -> dict[str, list[Measured]]:
    """Every client ``times`` times, in turns, so that what else the machine does meets them all."""
    results: dict[str, list[Measured]] = {name: [] for name in clients}
    for _ in range(times):
        for name, client in clients.items():
            results[name].append(measure(client, server, prompts, in_flight))
    return results


def speed_table(results: dict[str, list[Measured]]) -> str:
    """Medians, one client a row; the ratio to the engine's rate is the median of the rounds' ratios."""
    columns = ["requests/s", "of the engine's", "CPU ms/request", "peak MB", "bytes on disk/request"]
    lines = [f"| client | {' | '.join(columns)} |", f"|---{'|---:' * len(columns)}|"]
    for name, runs in results.items():
        per_second, cpu, peak = (
            statistics.median(getattr(run, column) for run in runs) for column in ("per_second", "cpu_ms", "peak_mb")
        )
        pairs = zip(runs, results["engine"], strict=True)
        ratio = statistics.median(run.per_second / ours.per_second for run, ours in pairs)
        kept = [run.bytes_per_call for run in runs if run.bytes_per_call is not None]
        size = f"{statistics.median(kept):,.0f}" if kept else ""
        lines.append(f"| {NAMES[name]} | {per_second:,.0f} | {ratio:.2f} | {cpu:.2f} | {peak:.0f} | {size} |")
    return "\n".join(lines)


def parts_table(run: Measured, n_calls: int) -> str:
    """What a call takes in the record, the largest part first."""
    page = min(run.parts.values(), default=0)
    # One page is there without calls.
    grown = {name: size - page for name, size in run.parts.items() if size > page and name != "sqlite_schema"}
    lines = ["| table or index | bytes/request |", "|---|---:|"]
    lines += [f"| {name} | {grown[name] / n_calls:,.0f} |" for name in sorted(grown, key=grown.__getitem__)[::-1]]
    return "\n".join(lines)


def storm_table(results: dict[str, list[Measured]]) -> str:
    """Medians, one client a row, with the worst run."""
    lines = ["| client | wasted calls (worst) | requests/s |", "|---|---:|---:|"]
    for name, runs in results.items():
        refused = [run.refused for run in runs]
        per_second = statistics.median(run.per_second for run in runs)
        lines.append(f"| {NAMES[name]} | {statistics.median(refused):.0f} ({max(refused)}) | {per_second:,.0f} |")
    return "\n".join(lines)


@dataclass(frozen=True)
class Trial:
    """What every limited server allows in ``span`` seconds, and how a client asks it."""

    requests: int
    span: float
    spans: float
    in_flight: int
    rounds: int


def limited(client: list[str], case: Limited, trial: Trial) -> tuple[float, int]:
    """(share of what the server allows that the client got, 429s), over the trial's spans."""
    kind, limit = ("tokens", 25 * trial.requests) if case.tokens else ("requests", trial.requests)
    # A little less than the spans: what comes back at their end is not asked for any more.
    seconds = (trial.spans - 0.02) * trial.span
    options = {"latency": 0.5, "minute_seconds": trial.span, f"{kind}_per_minute": limit, **case.options}
    with running_server(**options) as server:
        found = ask(client, server, {"seconds": seconds, "in_flight": trial.in_flight})
        refused = server.stats()["rejected_429"]
    got = found["tokens"] if case.tokens else found["answered"]
    return got / case.allowed(limit, trial.span, seconds), refused


def limits_table(client: list[str], trial: Trial) -> str:
    """Medians, one server a row, with the worst run; a request has about 25 tokens."""
    lines = ["| what the server limits | got of what it allows (worst) | 429s (most) |", "|---|---:|---:|"]
    for case in LIMITS:
        runs = [limited(client, case, trial) for _ in range(trial.rounds)]
        shares, refused = [share for share, _ in runs], [count for _, count in runs]
        lines.append(
            f"| {case.words} | {statistics.median(shares):.1%} ({min(shares):.1%}) "
            f"| {statistics.median(refused):.0f} ({max(refused)}) |"
        )
    return "\n".join(lines)


def machine(others: Sequence[str] = ()) -> str:
    """What the figures are measured on and with, and how busy it is now."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("aiohttp", "openai", "sqlalchemy"))
    return (
        f"{datetime.now(UTC):%Y-%m-%d}; {os.cpu_count()} cores of {platform.machine()}, {platform.system()}, "
        f"Python {platform.python_version()}, {', '.join([packages, *others])}; load {os.getloadavg()[0]:.1f}"
    )


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--curator-python", type=Path, help="a Python that has bespokelabs-curator")
    parser.add_argument("--prompts", type=int, default=2000)
    parser.add_argument("--in-flight", type=int, default=200)
    parser.add_argument("--latency", type=float, nargs="*", default=[0.05, 1.0], help="seconds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--parts", nargs="+", choices=["speed", "storm", "limits"], default=["speed", "storm", "limits"]
    )
    parser.add_argument("--limit", type=int, default=600, help="requests that the limited servers allow in a span")
    parser.add_argument("--span", type=float, default=20.0, help="seconds")
    parser.add_argument("--spans", type=float, default=2.0, help="how many of them a client of theirs has")
    return parser.parse_args()


def main() -> None:
    """Measures, then prints."""
    given = options()
    prompts = [f"Rephrase sentence {n}: The man turned on the faucet of bathtub {n}." for n in range(given.prompts)]
    clients = {name: [sys.executable, "-m", "benchmarks.clients", name] for name in NAMES if name != "curator"}
    if given.curator_python:
        clients["curator"] = [str(given.curator_python), str(Path(__file__).with_name("curator_client.py"))]
    for latency in given.latency if "speed" in given.parts else []:
        where = machine()
        with running_server(latency=latency) as server:
            speed = rounds(clients, server, prompts, given.in_flight, given.rounds)
        others = sorted({run.version for runs in speed.values() for run in runs if run.version})
        print(f"### {1000 * latency:g} ms\n\n{len(prompts):,} prompts, {given.in_flight} in flight, ", end="")
        print(f"medians of {given.rounds}; {', '.join([where, *others])}\n\n{speed_table(speed)}\n", flush=True)
        if latency == given.latency[0] and speed["engine"][0].parts:
            print(f"Of the engine's bytes:\n\n{parts_table(speed['engine'][0], len(prompts))}\n", flush=True)
    if "storm" in given.parts:
        stormy = {name: client for name, client in clients.items() if name in STORMY}
        where = machine()
        with running_server(latency=0.05, max_in_flight=given.in_flight // 4) as server:
            storm = rounds(stormy, server, prompts[:1000], given.in_flight, given.rounds)
        print(
            f"### Storm\n\n{len(prompts[:1000]):,} prompts, 50 ms, the server admits {given.in_flight // 4} at once, "
        )
        print(f"{given.in_flight} wanted, medians of {given.rounds}; {where}\n\n{storm_table(storm)}\n", flush=True)
    if "limits" in given.parts:
        trial = Trial(given.limit, given.span, given.spans, given.in_flight, given.rounds)
        print(
            f"### Limits\n\nA server that answers after 500 ms and allows {given.limit:,} requests (or the tokens of "
        )
        print(
            f"about as many) in {given.span:g} s, for {given.spans:g} times that; {given.in_flight} in flight wanted, "
        )
        print(f"medians of {given.rounds}; {machine()}\n\n{limits_table(clients['engine'], trial)}")


if __name__ == "__main__":
    main()
