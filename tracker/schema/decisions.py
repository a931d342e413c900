"""What people decided at checkpoints, and how judges were tested against that."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

from tracker.schema import base  # noqa: F401  names constraints, which must be set before the first table


class Decision(SQLModel, table=True):
    """One answer of a person at a checkpoint. Nothing is overwritten: of each annotator the newest counts."""

    __tablename__ = "decision"
    __table_args__ = (Index(None, "shared_experiment_id", "position"),)

    id: int | None = Field(default=None, primary_key=True)
    shared_experiment_id: int = Field(foreign_key="shared_experiment.id")
    position: int = Field(description="0-based, in file order; people are shown position + 1")
    checkpoint: str = Field(description="review or annotation")
    verdict: str = Field(description="same (approved), not_the_same (rejected) or skipped")
    annotator: str = Field(description="who")
    settles: bool = Field(default=False, description="stands where annotators differ")
    decided_at: str
    via: str = Field(description="terminal, web, option, import or adopted")
    adopted_from_id: int | None = Field(
        default=None,
        foreign_key="decision.id",
        description="the decision on the same two texts in an experiment that differs in its judge only",
    )
    note: str = Field(default="", sa_type=Text)


class Checkpoint(SQLModel, table=True):
    """A checkpoint that is closed: what people decided there has been used, and can change no more."""

    __tablename__ = "checkpoint"
    __table_args__ = (UniqueConstraint("shared_experiment_id", "name"),)

    id: int | None = Field(default=None, primary_key=True)
    shared_experiment_id: int = Field(foreign_key="shared_experiment.id")
    name: str = Field(description="review or annotation")
    generation_run_id: int = Field(foreign_key="generation_run.id", description="the run that used it")
    closed_at: str
    examples: str = Field(
        sa_type=Text, description="JSON array: positions of the samples that became few-shot examples"
    )
    judge_test_id: int | None = Field(
        default=None,
        foreign_key="judge_test.id",
        description="annotation: the test that let the judge decide the rest; maybe one of another experiment",
    )


class JudgeTest(SQLModel, table=True):
    """One test of a judge against people's verdicts on the same samples."""

    __tablename__ = "judge_test"

    id: int | None = Field(default=None, primary_key=True)
    shared_experiment_id: int = Field(foreign_key="shared_experiment.id", index=True)
    generation_run_id: int = Field(foreign_key="generation_run.id", unique=True)
    judge_key: str = Field(
        max_length=32, index=True, description="content key of the judge: settings, prompt, examples"
    )
    test_set_key: str = Field(max_length=32, description="content key of the samples and people's verdicts on them")
    model: str
    temperature: float | None = None
    n_tested: int
    n_correct: int = Field(description="verdicts that are the person's; an unclear one is not")
    accuracy: float = Field(description="n_correct / n_tested")
    required_accuracy: float
    passed: bool
    created_at: str
    settings: str = Field(sa_type=Text, description="JSON object: the validation section, with the prompt")


class JudgeTestSample(SQLModel, table=True):
    """One sample of a judge test."""

    __tablename__ = "judge_test_sample"

    judge_test_id: int = Field(foreign_key="judge_test.id", primary_key=True)
    position: int = Field(primary_key=True)
    expected: str = Field(description="the person's verdict: same or not_the_same")
    verdict: str = Field(description="the judge's: same, not_the_same or unclear")
    request_key: str = Field(sa_column=Column(ForeignKey("request.key"), nullable=False, index=True))
