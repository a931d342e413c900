"""The page about lineages: its commands run in their order and print what it says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.test_docs_pools import BLOCK, outcome
from tests.test_readme import settled
from tests.workspaces import REPOSITORY, rows
from tracker.mlflow_runs.training_report import FINGERPRINT_TAG
from tracker.tracing.lineage_start import MIN_DIGITS

PAGE = (REPOSITORY / "docs/lineage.md").read_text(encoding="utf-8")


def steady(text: str) -> str:
    """``text`` without what differs from run to run; where lines break depends on the length of a host's name."""
    text = re.sub(r"\d{4}-\d\d-\d\d(?= |<|\")", "<day>", settled(re.sub(r"\b[0-9a-f]{32}\b", "<id>", text)))
    text = re.sub(r"[\s│]+", " ", text)
    text = re.sub(r"(?<=<moment>) on \S+, \d+\.\d s", " on <host>", text)
    return re.sub(r"\d+\.\d(?=#37;)", "<share>", text).strip()


@pytest.mark.timeout(600)  # a training in a process of its own
def test_everything_on_the_page_runs_in_its_order_and_prints_what_it_says(tmp_path: Path) -> None:
    here, ran = tmp_path, 0
    for block in BLOCK.finditer(PAGE):
        if block["kind"] != "console":
            continue
        for step in re.split(r"^\$ ", block["body"], flags=re.MULTILINE)[1:]:
            line, _, expected = step.partition("\n")
            if line.startswith("cd "):
                here /= line.removeprefix("cd ")
                continue
            done = outcome(shlex.split(line), here)
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
            if expected:
                assert steady(done.stdout.replace(f"{here}/", "")) == steady(expected), line
            ran += 1
    assert ran > 5
    [(fingerprint,)] = rows(here, "SELECT fingerprint FROM shared_experiment")
    assert f"tags.`{FINGERPRINT_TAG}` LIKE '%{fingerprint}%'" in PAGE


def test_the_page_says_how_many_digits_do() -> None:
    assert f"its beginning ({MIN_DIGITS} digits)" in PAGE
