"""Every recipe of docs/ is run, apart from the other pages: most of the time goes into trainings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs_pages import DOCS, Begun, beginning, check

RECIPES = sorted((DOCS / "recipes").glob("*.md"))


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Begun]:
    with beginning(tmp_path_factory.mktemp("recipes")) as found:
        yield found


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", RECIPES, ids=lambda page: page.name)
def test_every_command_prints_what_the_recipe_says(page: Path, begun: Begun, tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    check(page, top, begun)
