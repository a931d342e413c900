"""The README's commands run, in its order, and print what it says they print.

``SYNTHTRACK_DOCS=write`` puts in the ids and times of this run, so that they are the same all through the page.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.main import COMMANDS
from pipeline.generation.plan import make_plan
from pipeline.perspectives.specs import PerspectivesConfig
from pipeline.pools.specs import BenchmarksConfig, PoolConfig
from pipeline.providers import resolve
from pipeline.sources.records import Source
from pipeline.specs import GenerationConfig
from pipeline.training.specs import grid
from tests.llm_server import Server, running_server
from tests.recording import SAMPLE, record_sample
from tracker.configs import parse, parse_json, validate

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def console() -> list[tuple[str, str]]:
    """Each command of the console blocks with the output that is printed below it."""
    steps: list[tuple[str, str]] = []
    for block in re.findall(r"^```console\n(.*?)^```", README, re.MULTILINE | re.DOTALL):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command = "".join(re.findall(r"\A(?:.*\\\n)*.*", step))
            steps.append((command, step.removeprefix(f"{command}\n")))
    return steps


def settled(text: str) -> str:
    """``text`` without what differs from run to run or from machine to machine.

    Fingerprints (the address is in them), names and times of runs, seconds, and accuracies where sums are rounded in
    another order.
    """
    text = re.sub(r"\b[0-9a-f]{8}\b", "<run>", text)
    # What is made within the same second is told apart by a number.
    text = re.sub(r"\d{8}_\d{6}(_\d+\b)?", "<time>", text)
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "<moment>", text)
    text = re.sub(r"\d+\.\d%", "<share>", text)
    text = re.sub(r"^( +0\.[79] +\d+ +)0\.\d+$", r"\1<share>", text, flags=re.MULTILINE)
    text = re.sub(r"\b[0-9a-f]{12}\b", "<fingerprint>", text)
    text = re.sub(r"\d+\.\d s$", "<seconds>", text, flags=re.MULTILINE)
    text = re.sub(r"\(\d+ KiB\)", "<size>", text)
    return re.sub(r"Workspace: \S*my-study", "Workspace: my-study", text).strip("\n")


_IDS = re.compile(r"\b[0-9a-f]{8}\b|\b[0-9a-f]{12}\b|\d{8}_\d{6}|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")


def with_ids_of(printed: str, expected: str) -> str:
    """``expected`` with the ids and times that the same lines of ``printed`` have."""
    lines, left = [], printed.splitlines()
    for line in expected.splitlines():
        at = next((at for at, each in enumerate(left) if settled(each) == settled(line)), None)
        if line == "..." or at is None:
            lines.append(line)
        else:
            found = iter(_IDS.findall(left[at]))
            lines.append("".join(f"{part}{next(found, '')}" for part in _IDS.split(line)))
            left = left[at + 1 :]
    return "".join(f"{line}\n" for line in lines)


def is_printed(expected: str, printed: str) -> bool:
    """Whether ``printed`` is what is ``expected``, in which a line of three points stands for any lines."""
    parts = [re.escape(part) for part in re.split(r"^\.\.\.$\n?", expected, flags=re.MULTILINE)]
    return re.fullmatch(r"(?:.*\n)*?".join(parts) + r"\n?", printed + "\n") is not None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    recorded = record_sample(tmp_path_factory.mktemp("recorded") / "sample.jsonl")
    with running_server(recorded=recorded) as running:
        yield running


@pytest.mark.timeout(600)  # sixty processes, of which four train a model
def test_every_command_of_the_readme_prints_what_it_says(server: Server, tmp_path: Path) -> None:
    environ = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "OPENAI_BASE_URL": server.base_url,
        "OPENAI_API_KEY": "test-key",
        "LANG": "C.UTF-8",
        "HOME": str(tmp_path),
    }
    here, ran, text = tmp_path, 0, README
    for command, expected in console():
        if command.startswith("export "):
            continue
        if command.startswith("cd "):
            here /= command.removeprefix("cd ")
            continue
        words = shlex.split(command.replace("\\\n", ""))
        done = subprocess.run(words, cwd=here, env=environ, capture_output=True, text=True, timeout=170, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        assert is_printed(settled(expected), settled(done.stdout)), f"{command}\n{done.stdout}"
        ran += 1
        text = text.replace(f"{command}\n{expected}", f"{command}\n{with_ids_of(done.stdout, expected)}", 1)
    assert ran > 8
    if os.environ.get("SYNTHTRACK_DOCS") == "write":
        (ROOT / "README.md").write_text(text, encoding="utf-8")


def test_ids_of_one_run_are_put_in_and_nothing_else() -> None:
    printed = "run 1234abcd took 2.0 s\nmore\nx_20261121_040404: 12345678abcd\n"
    expected = "run aaaabbbb took 1.0 s\n...\nx_20260101_010101: aaaabbbbcccc\nother aaaabbbb\n"
    assert with_ids_of(printed, expected) == (
        "run 1234abcd took 1.0 s\n...\nx_20261121_040404: 12345678abcd\nother aaaabbbb\n"
    )


def test_every_command_that_the_readme_names_exists() -> None:
    named = set(re.findall(r"synthtrack ([a-z]+(?:-[a-z]+)*)", README))
    assert named <= set(COMMANDS), "the README names a command that is not there"
    assert {"demo", "test"} <= set(re.findall(r"^make (\w+)", README, re.MULTILINE))


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_config_of_perspectives_that_is_shown_can_be_used(page: Path) -> None:
    for text in re.findall(r"^```json\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        document = parse_json(text, page.name)
        if "data_config" in document.data:
            assert validate(PerspectivesConfig, document).agent_perspectives


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_config_that_is_shown_can_be_used(page: Path) -> None:
    sample = [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
    for text in re.findall(r"^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        document = parse(text, page.name)
        if "method" in document.data:
            assert grid(document).points
            continue
        if "benchmarks" in document.data:
            is_of_benchmarks = isinstance(document.data["benchmarks"], dict)
            assert validate(BenchmarksConfig if is_of_benchmarks else PoolConfig, document)
            continue
        config = resolve(validate(GenerationConfig, document), {})
        source = Source("Copa", "copa", "sample", tuple(json.dumps(record) for record in sample), ())
        assert make_plan(config, document, source).warnings == ()
