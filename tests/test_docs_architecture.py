"""The map of the code is true: it names every room and every dependency, and nothing that is not there."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

from tests.workspaces import REPOSITORY

PACKAGES = ("cli", "pipeline", "tracker")
MAP = (REPOSITORY / "docs/ARCHITECTURE.md").read_text(encoding="utf-8")
DESIGN = (REPOSITORY / "docs/design.md").read_text(encoding="utf-8")
MODULES = {
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
    for package in PACKAGES
    for path in (REPOSITORY / package).rglob("*.py")
}


def table(head: str) -> list[str]:
    """What stands in the first column of the table under ``head``."""
    found = re.search(rf"\| {re.escape(head)} \|[^\n]*\n\|[-|]+\n((?:\|[^\n]*\n?)+)", MAP)
    assert found is not None
    return [line.split("|")[1].strip() for line in found[1].splitlines()]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_is_on_the_map_and_every_room_on_the_map_is_there(package: str) -> None:
    named = {name for row in table(f"`{package}/`") for name in re.findall(r"`([\w.]+/?)`", row)}
    place = REPOSITORY / package
    rooms = {f"{path.parent.name}/" for path in place.glob("*/__init__.py")}
    assert {name for name in named if name.endswith("/")} == rooms
    assert all((place / name).exists() for name in named)


def test_every_dependency_says_why_it_is_there() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    groups = {"package": [*project["dependencies"], *extras["train"]], "tool": extras["dev"]}
    for head, given in groups.items():
        wanted = {re.split(r"[\[><=]", each)[0] for each in given}
        named = {name for row in table(head) for name in re.split(r", | \(.*\)", row) if name}
        assert named == {name for name in wanted if not name.startswith(("types-", "synthtrack"))}


@pytest.mark.parametrize("page", [MAP, DESIGN], ids=["ARCHITECTURE.md", "design.md"])
def test_every_module_that_is_named_is_there(page: str) -> None:
    named = re.findall(r"`((?:tracker|pipeline|cli|tests)(?:[./]\w+)+(?:\.\w+)?)(?:\(\))?`", page)
    assert named
    missing = []
    for name in named:
        dotted = re.sub(r"\.(py|json)$", "", name).replace("/", ".")
        # The last word may be something in the module.
        known = {dotted, dotted.rpartition(".")[0]} & MODULES or f"{dotted}.__init__" in MODULES
        if not known and not Path(REPOSITORY, name).exists():
            missing.append(name)
    assert missing == []


def test_what_is_long_says_why() -> None:
    files, functions = set(), set()
    for path in (path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py")):
        place, text = path.relative_to(REPOSITORY), path.read_text(encoding="utf-8")
        if text.count("\n") > 350:
            files.add(str(place))
        for found in ast.walk(ast.parse(text)):
            if isinstance(found, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = (found.end_lineno or found.lineno) - found.lineno + 1
                if length > 50:
                    functions.add(".".join((*place.with_suffix("").parts, found.name)))
    of_versions = {name for name in functions if name.startswith("tracker.migrations.versions.")}
    assert of_versions
    named = re.findall(r"^\| `([\w./]+)` \|", DESIGN.partition("## What is long")[2], re.MULTILINE)
    assert set(named) == files | (functions - of_versions) | {"tracker.migrations"}
