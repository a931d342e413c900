"""What the page about lineages says beyond its commands, which ``test_docs_commands.py`` runs."""

from __future__ import annotations

import re

from tests.workspaces import REPOSITORY
from tracker.fingerprint import MIN_DIGITS
from tracker.mlflow_runs.training_report import FINGERPRINT_TAG

PAGE = (REPOSITORY / "docs/lineage.md").read_text(encoding="utf-8")


def test_the_filter_for_mlflow_holds_the_fingerprint_that_the_page_shows() -> None:
    [fingerprint] = re.findall(rf"tags\.`{FINGERPRINT_TAG}` LIKE '%([0-9a-f]+)%'", PAGE)
    assert f"Fingerprint: {fingerprint}\n" in PAGE


def test_the_page_says_how_many_digits_do() -> None:
    assert f"its beginning ({MIN_DIGITS} digits)" in PAGE
