"""The documentation as a site: it builds, loads nothing from elsewhere, and every link in it leads somewhere."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click
import pytest

from cli.main import cli
from tests.docs_pages import DOCS, blocks, pages, steps
from tests.test_docs import command, options
from tests.workspaces import REPOSITORY

LOADED = {"script", "link", "img", "iframe", "source", "video", "audio", "object", "embed"}
GENERATED = {
    path for path in pages() if path.read_text(encoding="utf-8").startswith("<!-- Made by `make docs`")
}  # fmt: skip
WRITTEN = [
    path
    for path in pages()
    if path not in GENERATED and path.name not in {"ARCHITECTURE.md", "design.md", "mutation.md"}
]
GUIDES = [path for path in WRITTEN if path.name not in {"index.md", "prompts.md", "tasks.md"}]


class Page(HTMLParser):
    """The anchors of a page, where its links lead, and what a browser loads with it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        for name in {"href", "src", "data", "poster"} & given.keys():
            (self.loaded if tag in LOADED else self.links).append(given[name])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", place,
         "--config-file", REPOSITORY / "docs/site/mkdocs.yml"],
        cwd=place, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    return place


@pytest.fixture(scope="module")
def built(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}


def test_every_page_is_built(site: Path, built: dict[Path, Page]) -> None:
    wanted = {site / path.relative_to(DOCS).with_suffix(".html") for path in pages()}
    assert wanted <= built.keys()
    assert {site / name for name in ("CHANGELOG.html", "benchmarks/results.html")} <= built.keys()


def test_nothing_is_loaded_from_elsewhere(site: Path, built: dict[Path, Page]) -> None:
    loaded = {target for page in built.values() for target in page.loaded}
    assert loaded
    assert not {target for target in loaded if urlsplit(target).scheme not in {"", "data"} or target.startswith("//")}
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert not re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//[^)]*", styles)


def places(site: Path, built: dict[Path, Page]) -> Iterator[tuple[str, Path, str]]:
    """Where each link within the site leads: from which page, to which file and anchor."""
    for path, page in built.items():
        for target in (*page.links, *page.loaded):
            parts = urlsplit(target)
            if not parts.scheme and not parts.netloc:
                to = (path.parent / unquote(parts.path)).resolve() if parts.path else path
                yield f"{path.relative_to(site)}: {target}", to, unquote(parts.fragment)


def test_every_link_and_anchor_of_the_site_leads_somewhere(site: Path, built: dict[Path, Page]) -> None:
    found = list(places(site.resolve(), {path.resolve(): page for path, page in built.items()}))
    assert len(found) > 1000
    assert not [name for name, to, _ in found if not to.exists()]
    known = {path.resolve(): page.ids for path, page in built.items()}
    assert not [name for name, to, anchor in found if anchor and to in known and anchor not in known[to]]


def words(page: Path) -> Iterator[list[str]]:
    """Each call of synthtrack that a page shows, in a block or within a line."""
    text = page.read_text(encoding="utf-8")
    spans = re.findall(r"`(synthtrack [^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    lines = [step.line for block in blocks(text) if block.kind == "console" for step in steps(block)]
    for line in (*spans, *lines):
        for call in re.findall(r"(?<![-/\w])synthtrack ((?:[^|;&<>()]|'[^']*'|\"[^\"]*\")+)", line):
            with_quotes = call if call.count('"') % 2 == 0 and call.count("'") % 2 == 0 else call.split('"')[0]
            yield shlex.split(with_quotes, comments=True)


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_every_command_and_option_that_a_page_names_exists(page: Path) -> None:
    for each in words(page):
        given = each[2:] if each[0] == "--root" else each
        if given[0].startswith("--"):
            assert given[0] in options(cli), given
            continue
        found, rest = command(given)
        assert found is not cli, given
        assert {word.partition("=")[0] for word in rest if word.startswith("--")} <= options(found), given


def test_every_option_that_a_written_page_names_alone_exists() -> None:
    known = options(cli)
    for page in WRITTEN:
        spans = re.findall(r"`(--[a-z][a-z-]*)[^`\n]*`", page.read_text(encoding="utf-8"))
        assert set(spans) <= known, page.name


def names(group: click.Group, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        yield (*above, name)
        if isinstance(found, click.Group):
            yield from names(found, (*above, name))


def test_every_command_is_in_a_guide() -> None:
    said = " ".join(page.read_text(encoding="utf-8") for page in WRITTEN)
    # What is called without a name of its own: `publish EXPERIMENT`, `import DIR`.
    unnamed = {("perspectives", "run"), ("publish", "EXPERIMENT"), ("import", "path")}
    assert not [" ".join(name) for name in {*names(cli)} - unnamed if not re.search(rf"\b{' '.join(name)}\b", said)]


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_every_guide_and_recipe_says_where_to_go_next(page: Path) -> None:
    *_, last = page.read_text(encoding="utf-8").split("\n## ")
    assert last.startswith("Where to go next\n")
    assert "](" in last
