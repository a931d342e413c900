"""Strategy two_stage: which step an experiment is at, what people decided, and what was learned from that.

Pure functions over rows of the record. A sample's position is 0-based, its number, which people see, is position + 1.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from pipeline.prompts import format_examples
from tracker.errors import WrongStep
from tracker.fingerprint import Json, content_key
from tracker.record.catalogue import Reader, Row

TWO_STAGE = "two_stage"
REVIEW, ANNOTATION = "review", "annotation"
SAME, NOT_THE_SAME, SKIPPED, DISPUTED = "same", "not_the_same", "skipped", "disputed"
ENOUGH = 1e-9
"""What a float may lack: 38 of 40 is 0.95."""


class Step(enum.StrEnum):
    """The steps of a two_stage experiment in their order; a person takes REVIEW and ANNOTATE."""

    REPHRASE_FIRST = "rephrase_first"
    REVIEW = "review"
    REPHRASE_REST = "rephrase_rest"
    ANNOTATE = "annotate"
    JUDGE_TEST = "judge_test"
    VALIDATE = "validate"
    COMPLETE = "complete"


STEPS = tuple(Step)


def positions(samples: str) -> range:
    """The positions of samples ``21-40``."""
    first, _, last = samples.partition("-")
    return range(int(first) - 1, int(last))


def numbers(found: range) -> str:
    """``21-40`` of its positions."""
    return f"{found.start + 1}-{found.stop}"


@dataclass(frozen=True)
class Ranges:
    """Which samples a person sees, and to what end; as positions."""

    review: range
    few_shot: range
    test: range

    def of(self, checkpoint: str) -> list[int]:
        """The positions of a checkpoint in file order."""
        return list(self.review) if checkpoint == REVIEW else sorted([*self.few_shot, *self.test])


@dataclass(frozen=True)
class State:
    """A two_stage experiment as the record has it.

    ``samples`` are those of the checkpoints, by position, with ``original``, ``rephrased``, ``status``; ``decisions``
    what people's decisions come to (rows of sample_decision); ``closed`` the positions of the examples by checkpoint;
    ``tests`` every test of any judge on this experiment, and of this judge on the same test set elsewhere;
    ``accept_failures``: records that failed stay so.
    """

    experiment: Row
    settings: Mapping[str, Json]
    identity: Mapping[str, Json]
    ranges: Ranges
    samples: Mapping[int, Row]
    decisions: Mapping[int, Row]
    closed: Mapping[str, list[int]]
    tests: Sequence[Row]
    required_accuracy: float
    n_rephrased: int
    n_failed: int
    accept_failures: bool = False

    @property
    def reference(self) -> str:
        return f"{self.experiment['dataset']}/{self.experiment['name']}"

    def step(self) -> Step:
        """The next step; records that failed are to be tried again, unless their failures are accepted."""
        status = self.experiment["status"]
        if status == "complete" or (self.accept_failures and status == "partial"):
            return Step.COMPLETE
        if ANNOTATION in self.closed:
            return Step.VALIDATE
        if REVIEW not in self.closed:
            # Where nothing was looked at, nothing is reviewed, whatever failures are accepted.
            if not self.there(REVIEW) or not all(self._is_there(at) for at in self.ranges.review):
                return Step.REPHRASE_FIRST
            return Step.REVIEW if self.open(REVIEW) else Step.REPHRASE_REST
        n_there = self.n_rephrased + (self.n_failed if self.accept_failures else 0)
        if n_there < self.experiment["n_records"]:
            return Step.REPHRASE_REST
        return self._last_checkpoint()

    def _last_checkpoint(self) -> Step:
        if self.open(ANNOTATION):
            return Step.ANNOTATE
        return Step.VALIDATE if self.judge_passed else Step.JUDGE_TEST

    def _is_there(self, position: int) -> bool:
        sample = self.samples.get(position)
        return sample is not None and (sample["status"] != "failed" or self.accept_failures)

    def open(self, checkpoint: str) -> list[int]:
        """The positions that still wait for a person: without a decision, or disputed."""
        return [
            at for at in self.there(checkpoint) if at not in self.decisions or self.decisions[at]["verdict"] == DISPUTED
        ]

    def there(self, checkpoint: str) -> list[int]:
        """The positions of a checkpoint that have a rephrased text to look at."""
        return [at for at in self.ranges.of(checkpoint) if at in self.samples and self.samples[at]["rephrased"]]

    def decided(self, among: Sequence[int], verdict: str) -> list[int]:
        """Those of the positions on which that verdict stands."""
        return [at for at in among if at in self.decisions and self.decisions[at]["verdict"] == verdict]

    def learned(self, checkpoint: str) -> list[int]:
        """The positions of what is learned at a checkpoint: the approved samples, or those `same` for the judge."""
        if checkpoint in self.closed:
            return self.closed[checkpoint]
        among = self.ranges.review if checkpoint == REVIEW else self.ranges.few_shot
        return self.decided([at for at in self.there(checkpoint) if at in among], SAME)

    def examples(self, checkpoint: str) -> list[dict[str, str]]:
        """What is learned at a checkpoint, as few-shot examples."""
        verdict = {} if checkpoint == REVIEW else {"verdict": "same"}
        return [
            {"original": self.samples[at]["original"], "rephrased": self.samples[at]["rephrased"], **verdict}
            for at in self.learned(checkpoint)
        ]

    @property
    def rephrase_examples(self) -> list[Json]:
        """The configured examples and the approved ones: what {{REPHRASE_FEWSHOT}} brings into the second stage."""
        return [*_list(self.settings["generation.few_shot_examples"]), *self.examples(REVIEW)]

    @property
    def judge_examples(self) -> list[Json]:
        """The configured examples and the annotated ones: what {{VALIDATION_FEWSHOT}} brings in."""
        return [*_list(self.settings["validation.few_shot_examples"]), *self.examples(ANNOTATION)]

    @property
    def test_set(self) -> dict[int, str]:
        """People's verdicts on the samples that the judge is tested with, by position."""
        among = [at for at in self.ranges.test if at in self.samples]
        return {
            at: self.decisions[at]["verdict"]
            for at in among
            if at in self.decisions and self.decisions[at]["verdict"] in {SAME, NOT_THE_SAME}
        }

    @cached_property
    def test_set_key(self) -> str:
        """What the test set is told apart by: the source of its records, its texts, and people's verdicts."""
        rows: list[Json] = [
            [at, self.samples[at]["original"], self.samples[at]["rephrased"], verdict]
            for at, verdict in self.test_set.items()
        ]
        return content_key([self.experiment["source_digest"], rows])

    @property
    def judge_key(self) -> str:
        """What the experiment's own judge is told apart by."""
        validation = self.identity["validation"]
        return judge_key(validation, self.judge_examples, self.identity)

    @property
    def judge_passed(self) -> bool:
        """Whether the experiment's own judge agreed with the people on this test set, as far as is required now."""
        test = self.test()
        return test is not None and test["accuracy"] >= self.required_accuracy - ENOUGH

    def test(self) -> Row | None:
        """The newest test of the experiment's own judge on the test set as it is, or None."""
        mine = (self.judge_key, self.test_set_key)
        found = [row for row in self.tests if (row["judge_key"], row["test_set_key"]) == mine]
        return found[-1] if found else None


def judge_key(validation: Mapping[str, Json], examples: Sequence[Json], identity: Mapping[str, Json]) -> str:
    """The content key of a judge: its settings as ``experiment_identity`` has them, and the examples as they are sent.

    ``identity`` is that of the experiment, for what shapes verdicts besides: the field, the draw, how answers are read.
    """
    ranges = ("few_shot_range", "test_range")
    own = {name: value for name, value in validation.items() if name not in ranges}
    own["few_shot_examples"] = format_examples(list(examples))
    field = identity["generation"]["field_to_rephrase"]
    return content_key([own, field, identity["reading"], identity["draw"]])


def ranges_of(settings: Mapping[str, Json]) -> Ranges:
    """The ranges in an experiment's settings."""
    return Ranges(
        range(settings["generation.review_size"]),
        positions(settings["validation.few_shot_range"]),
        positions(settings["validation.test_range"]),
    )


_SAMPLES = """
    SELECT position, original, rephrased, status, verdict, decided_by, error FROM sample
    WHERE shared_experiment_id = :id AND position < :end ORDER BY position"""
_DECISIONS = "SELECT * FROM sample_decision WHERE shared_experiment_id = :id"
_CLOSED = "SELECT name, examples FROM checkpoint WHERE shared_experiment_id = :id"
_COUNTS = """
    SELECT COUNT(CASE WHEN status <> 'failed' THEN 1 END) AS n_rephrased,
           COUNT(CASE WHEN status = 'failed' THEN 1 END) AS n_failed
    FROM sample WHERE shared_experiment_id = :id"""
_LAST_RUN = """
    SELECT config, command FROM generation_run WHERE shared_experiment_id = :id AND outcome <> 'tested'
    ORDER BY id DESC LIMIT 1"""
_TESTS = "SELECT * FROM judge_test_overview WHERE shared_experiment_id = :id OR judge_key = :key ORDER BY id"


def load(reader: Reader, experiment: Row) -> State:
    """The state of an experiment, whose row is as ``listings.experiment`` gives it. Raises WrongStep for direct_all."""
    settings, identity = experiment["settings"], experiment["identity"]
    if experiment["strategy"] != TWO_STAGE:
        raise WrongStep(
            f"{experiment['dataset']}/{experiment['name']} was made with strategy {experiment['strategy']}: nobody "
            "reviews or annotates it.",
            hint="Set generation.strategy: two_stage in its config for a data set that people check.",
        )
    ranges = ranges_of(settings)
    end = max(ranges.review.stop, ranges.few_shot.stop, ranges.test.stop)
    samples = reader.rows(_SAMPLES, id=experiment["id"], end=end)
    counts = reader.rows(_COUNTS, id=experiment["id"])[0]
    state = State(
        experiment=experiment,
        settings=settings,
        identity=identity,
        ranges=ranges,
        samples={row["position"]: row for row in samples},
        decisions={row["position"]: row for row in reader.rows(_DECISIONS, id=experiment["id"])},
        closed={row["name"]: json.loads(row["examples"]) for row in reader.rows(_CLOSED, id=experiment["id"])},
        tests=(),
        required_accuracy=settings["validation.required_accuracy"],
        **counts,
    )
    tests = reader.rows(_TESTS, id=experiment["id"], key=state.judge_key)
    return _as_last_asked(reader, replace(state, tests=tests))


def _as_last_asked(reader: Reader, state: State) -> State:
    """The state with what shapes no data, as the last run was given it; trying a judge decides nothing."""
    found = reader.rows(_LAST_RUN, id=state.experiment["id"])
    if not found:
        return state
    required = json.loads(found[0]["config"]).get("validation", {}).get("required_accuracy", state.required_accuracy)
    return replace(
        state, required_accuracy=float(required), accept_failures="--accept-partial" in found[0]["command"].split()
    )


def _list(value: Json) -> list[Json]:
    return list(value or ())
