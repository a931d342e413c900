"""Every page of docs/ is run: its commands, in their order, print what it says. Recipes have a file of their own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs_pages import DOCS, RUN, STEP, Begun, Block, beginning, blocks, check, is_printed, pages, steps, written
from tests.old_trees import ORIGINALS, jsonl, rephrased, write_tree
from tests.workspaces import REPOSITORY

ELSEWHERE = {
    "queries.md": "tests/test_docs_queries.py",
    "schema.md": "tests/test_docs.py",  # the views as the migrations make them: `make check` holds the page to them
    "tasks.md": "tests/pipeline/training/test_tasks_page.py",
}
"""Pages whose blocks a test of their own runs or derives."""


def name_of(page: Path) -> str:
    return page.relative_to(DOCS).as_posix()


PAGES = [page for page in pages() if page.name not in ELSEWHERE and page.parent == DOCS]


def shown(page: Path) -> list[Block]:
    return [block for block in blocks(page.read_text(encoding="utf-8")) if block.kind in RUN]


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Begun]:
    with beginning(tmp_path_factory.mktemp("docs")) as found:
        yield found


def lay_out(top: Path) -> None:
    """What the page about older projects begins with: a tree that is like the one that it draws."""
    write_tree(top / "older")
    (top / "workspace").mkdir()
    for split, records in (("train", rephrased(kept=(1, 4))), ("validation", ORIGINALS[:2])):
        (top / f"workspace/found_{split}.jsonl").write_text(jsonl(records))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", [each for each in PAGES if shown(each)], ids=name_of)
def test_every_command_prints_what_the_page_says(page: Path, begun: Begun, tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    if page.name == "import.md":
        lay_out(top)
    check(page, top, begun)


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_no_command_is_shown_in_a_way_that_is_not_run(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    kinds = {block.kind for block in blocks(text)}
    assert kinds <= {*RUN, "hidden", "text", "json", "jsonl", "yaml", "toml"}
    assert not re.findall(r"^(?: {4}|\t)synthtrack .*", text, re.MULTILINE)


def test_what_is_not_run_says_why_and_is_little() -> None:
    left = [block for page in pages() for block in shown(page) if block.reason is not None]
    assert all(len(str(block.reason).split()) > 2 for block in left)
    assert len(left) <= 2


def test_pages_that_another_test_runs_are_named_there() -> None:
    for name, test in ELSEWHERE.items():
        assert name.removesuffix(".md") in (REPOSITORY / test).read_text(encoding="utf-8")


def test_hidden_commands_only_begin_a_workspace() -> None:
    hidden = {
        block.body for page in pages() for block in blocks(page.read_text(encoding="utf-8")) if block.kind == "hidden"
    }
    assert all(block.count("$ ") <= 4 for block in hidden)
    assert len(hidden) <= 4


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_what_a_page_needs_before_its_first_command_is_shown(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    hidden = [step.line for block in blocks(text) if block.kind == "hidden" for step in steps(block)]
    assert {*hidden} <= {"synthtrack init study", "cd study", "synthtrack mlflow sync", "cd workspace"}, "makes data"
    seen = re.sub(r"^<!-- .*?^-->$", "", text, flags=re.MULTILINE | re.DOTALL)
    assert "synthtrack init study" not in hidden or "`synthtrack init study`, then `cd study`" in seen


SHOWN = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *pages()]


def unquoted(line: str) -> str:
    """A command without what a shell leaves alone: quoted text, `$?`, `$(` and `)`, the command `[`."""
    line = re.sub(r"'[^']*'|\"(?:\\.|[^\"])*\"", "", line).replace("$?", "")
    return " ".join(
        word for word in re.sub(r"\$\(([^()]*)\)", r"\1", line).split() if word.rstrip(";") not in {"[", "]"}
    )


@pytest.mark.parametrize("page", SHOWN, ids=lambda page: page.name)
def test_no_command_has_a_word_that_a_shell_may_take_for_a_pattern(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    lines = [step.line for block in blocks(text) if block.kind == "console" for step in steps(block)]
    assert not [line for line in lines if re.search(r"[][*?{}()]", unquoted(line))]
    assert not re.findall(r"(?:--set |as )[\w.]+=[^\s`']*[][*?{}]", text)


@pytest.mark.parametrize("page", SHOWN, ids=lambda page: page.name)
def test_no_command_is_wider_than_the_site(page: Path) -> None:
    shown = [block for block in blocks(page.read_text(encoding="utf-8")) if block.kind == "console"]
    lines = [line for block in shown for found in STEP.finditer(block.body) for line in found["line"].splitlines()]
    assert not [line for line in lines if len(line) > 100]


def test_what_is_printed_is_put_in_place_of_what_was_said() -> None:
    page = "A:\n\n```console\n$ one\nold\n$ two\n...\n$ three\n```\n"
    [block] = blocks(page)
    one, two, three = steps(block)
    new = written(page, {one: "new\nmore\n", two: "x\n", three: "3\n"})
    assert new == "A:\n\n```console\n$ one\nnew\nmore\n$ two\n...\n$ three\n3\n```\n"


def test_a_backslash_continues_a_command() -> None:
    [first, second] = steps(Block("console", "$ echo a \\\n    b\na b\n$ true\n", 0))
    assert (first.line.split(), first.expected) == (["echo", "a", "b"], "a b\n")
    assert (second.line, second.expected) == ("true", "")


@pytest.mark.parametrize(
    ("expected", "printed", "is_so"),
    [
        ("made in 0.3 s\n", "made in 12.1 s\n", True),
        ("40 records\n", "41 records\n", False),
        ("a\n...\nd\n", "a\nb\nc\nd\n", True),
        ("a\n...\nd\n", "a\nb\nc\n", False),
        ("a\n...\n", "a\n", True),
        ("a\n", "a\nb\n", False),
        ("", "b\n", False),
        ("...\nd\n", "d\n", True),
        ("...\nd\n", "abcd\n", False),
    ],
)
def test_what_counts_as_printed(expected: str, printed: str, is_so: bool) -> None:
    assert is_printed(expected, printed) is is_so
