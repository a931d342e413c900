"""Brings a two_stage experiment to each of its steps through the real commands, with few records and short ranges."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

from pipeline.checkpoints import open_sheet
from pipeline.two_stage import ANNOTATION, NOT_THE_SAME, REVIEW, SAME
from tests.workspaces import Done, call, config, new_root, served, write_config
from tracker.decisions import Answer
from tracker.paths import find_workspace

N_RECORDS = 24
REVIEW_SIZE = 4
FEW_SHOT, TEST = (5, 8), (9, 16)
RANGES: Mapping[str, Any] = {
    "generation__strategy": "two_stage",
    "generation__review_size": REVIEW_SIZE,
    "generation__rephrase_prompt": "{{REPHRASE_FEWSHOT}}\nRephrase: {premise}",
    "validation__few_shot_range": "5-8",
    "validation__test_range": "9-16",
    "validation__validation_prompt": (
        "{{VALIDATION_FEWSHOT}}\nOriginal: {original_premise}\nRephrased: {rephrased_premise}\nSame?"
    ),
}
OFFLINE, SERVED = "Copa/temp07_topp10_rulesv1", "Copa/temp07_topp10_gpt4o"


def staged(base_url: str | None = None, **changes: Any) -> dict[str, Any]:
    """The config of tests.workspaces with strategy two_stage: offline, or asked of the test server at ``base_url``."""
    given = {**RANGES, **changes}
    return config(**given) if base_url is None else served(base_url, **given)


def drafted(tmp_path: Path, base_url: str | None = None, **changes: Any) -> Path:
    """A workspace whose experiment waits at its review; its config is ``copa.yaml``."""
    root = new_root(tmp_path, N_RECORDS)
    write_config(root, staged(base_url, **changes))
    generated(root)
    return root


def generated(root: Path, *arguments: object) -> Done:
    """What `generate copa.yaml` says; it must succeed."""
    done = call(root, "generate", "copa.yaml", "--no-mlflow", *arguments)
    assert done.code == 0, done.err
    return done


def decide(
    root: Path, reference: str, checkpoint: str, rejected: AbstractSet[int] = frozenset(), *, annotator: str = "alice"
) -> None:
    """A person's answers to every sample of a checkpoint: ``rejected`` are numbers, the others are the same."""
    with open_sheet(find_workspace(str(root)), reference, checkpoint, annotator=annotator, independent=True) as sheet:
        answers = [Answer(card.position, NOT_THE_SAME if card.number in rejected else SAME) for card in sheet.cards]
        sheet.save(answers, via="option")


def reviewed(root: Path, reference: str = OFFLINE, rejected: AbstractSet[int] = frozenset({2})) -> Path:
    """The workspace with its review done and the rest rephrased: it waits at its annotation."""
    decide(root, reference, REVIEW, rejected)
    generated(root)
    return root


def annotated(root: Path, reference: str = OFFLINE, rejected: AbstractSet[int] = frozenset()) -> Path:
    """The workspace with its annotation done: its judge is to be tested."""
    decide(root, reference, ANNOTATION, rejected)
    return root
