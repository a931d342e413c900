"""Brings a two_stage experiment to each of its steps through the real commands, with few records and short ranges."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.annotating.checkpoints import open_sheet
from pipeline.two_stage import ANNOTATION, NOT_THE_SAME, REVIEW, SAME, SKIPPED, State, load
from tests.workspaces import Done, call, config, new_root, rows, served, write_config, write_recording
from tracker.listings import listings
from tracker.paths import Workspace, find_workspace
from tracker.record.catalogue import reading
from tracker.record.decisions import Answer

N_RECORDS = 24
REVIEW_SIZE = 4
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
GENERATE = ("generate", "copa.yaml", "--no-mlflow")
AGREEING = frozenset({9, 14})
"""What a person rejects at the annotation who agrees with the recorded judge."""


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
    done = call(root, *GENERATE, *arguments)
    assert done.code == 0, done.err
    return done


def decide(
    root: Path,
    reference: str,
    checkpoint: str,
    rejected: AbstractSet[int] = frozenset(),
    skipped: AbstractSet[int] = frozenset(),
    *,
    annotator: str = "alice",
    samples: str | None = None,
) -> None:
    """A person's answers to every sample of a checkpoint, or to ``samples`` of it.

    ``rejected`` and ``skipped`` are numbers, the others are the same.
    """
    workspace = find_workspace(str(root))
    with open_sheet(workspace, reference, checkpoint, annotator=annotator, samples=samples, independent=True) as sheet:
        said = dict.fromkeys(rejected, NOT_THE_SAME) | dict.fromkeys(skipped, SKIPPED)
        sheet.save([Answer(card.position, said.get(card.number, SAME)) for card in sheet.cards], via="option")


def reviewed(root: Path, reference: str = OFFLINE, rejected: AbstractSet[int] = frozenset({2})) -> Path:
    """The workspace with its review done and the rest rephrased: it waits at its annotation."""
    decide(root, reference, REVIEW, rejected)
    generated(root)
    return root


def annotated(root: Path, reference: str = OFFLINE, rejected: AbstractSet[int] = frozenset()) -> Path:
    """The workspace with its annotation done: its judge is to be tested."""
    decide(root, reference, ANNOTATION, rejected)
    return root


def state_of(workspace: Workspace, reference: str) -> State:
    """Where an experiment stands."""
    with reading(workspace) as reader:
        return load(reader, listings.experiment(reader, reference, workspace))


def recorded(tmp_path: Path, **verdicts: str) -> Path:
    """The test server's answers; ``s12="Same."`` is what the judge says of sample 12."""
    given = {int(name[1:]) - 1: said for name, said in verdicts.items()}
    return write_recording(tmp_path / "recording.jsonl", N_RECORDS, given)


@dataclass(frozen=True)
class Prompt:
    """What reached the test server: the sample it is about and the samples it shows as examples, by number."""

    about: int
    examples: tuple[int, ...]
    judging: bool
    text: str


def prompts(log: Path) -> list[Prompt]:
    """Every request in the server's log, in the order of arrival."""
    return [_prompt(json.loads(line)["messages"][-1]["content"]) for line in log.read_text().splitlines()]


def _prompt(text: str) -> Prompt:
    judging = text.endswith("Same?")
    shown, _, asked = text.rpartition("\nOriginal: " if judging else "\nRephrase: ")
    numbers = [int(house) + 1 for house in re.findall(r"^Original: .*house (\d+)", shown, re.MULTILINE)]
    about = re.findall(r"house (\d+)", asked)
    assert len(set(about)) == 1, text
    return Prompt(int(about[0]) + 1, tuple(numbers), judging, text)


def original_lines(root: Path, split: str = "train") -> list[bytes]:
    return (root / f"Data/original/Copa/copa_{split}.jsonl").read_bytes().splitlines(keepends=True)


def final_lines(root: Path, kept: AbstractSet[int]) -> list[bytes]:
    """The synthetic file's lines as the recording gives them, with the original where that sample was ``kept``."""
    return [
        line if number in kept else line.replace(_premise("The man in house {:03} fell.", number), _fall(number))
        for number, line in enumerate(original_lines(root), 1)
    ]


def _premise(text: str, number: int) -> bytes:
    return text.format(number - 1).encode()


def _fall(number: int) -> bytes:
    return _premise("In house {:03}, the man had a fall.", number)


def runs(root: Path) -> list[tuple[Any, ...]]:
    """Outcome, step and status of every run, oldest first."""
    return rows(root, "SELECT outcome, step, status FROM generation_run ORDER BY id")


def decided(root: Path, reference: str = SERVED) -> dict[int, tuple[Any, ...]]:
    """Status, verdict and who decided, by sample number."""
    found = rows(
        root,
        "SELECT s.position + 1, s.status, s.verdict, s.decided_by FROM sample s JOIN shared_experiment e "
        "ON e.id = s.shared_experiment_id WHERE e.dataset || '/' || e.name = ? ORDER BY s.position",
        reference,
    )
    return {number: tuple(rest) for number, *rest in found}
