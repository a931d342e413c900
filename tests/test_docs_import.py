"""What the page about importing shows: its commands run, and print what it says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tests.old_trees import ORIGINALS, jsonl, rephrased, write_tree
from tests.workspaces import REPOSITORY, call

PAGE = REPOSITORY / "docs/import.md"
STEP = re.compile(r"^```console\n\$ (?P<line>.*)\n(?P<expected>(?:.*\n)*?)```$", re.MULTILINE)


def printed(top: Path) -> list[tuple[str, str]]:
    """Each command of the page, with what it prints beside a tree that is like the page's."""
    write_tree(top / "older")
    here = top / "workspace"
    here.mkdir()
    for split, records in (("train", rephrased(kept=(1, 4))), ("validation", ORIGINALS[:2])):
        (here / f"found_{split}.jsonl").write_text(jsonl(records))
    found = []
    for step in STEP.finditer(PAGE.read_text(encoding="utf-8")):
        done = call(here, *shlex.split(step["line"])[1:])
        assert done.code in {0, 1}, done.err
        found.append((step["line"], done.out.replace(f"{top}/older", "../older")))
    return found


def test_every_command_prints_what_the_page_says(tmp_path: Path) -> None:
    said = [(step["line"], step["expected"]) for step in STEP.finditer(PAGE.read_text(encoding="utf-8"))]
    assert len(said) == 4
    assert printed(tmp_path) == said
