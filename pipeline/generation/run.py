"""One run of the engine: what is missing is asked for and written down.

A Run rephrases each record and judges it as soon as that is there. A Rephrasing leaves the verdict to people and later
runs, a JudgeTest asks the judge about samples whose verdict people gave.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pipeline.engine.asking import Asking, Display, Progress
from pipeline.engine.engine import Engine, Failed, Reply
from pipeline.generation.job import Job, models_of
from pipeline.generation.plan import Plan, clean
from pipeline.generation.verdict import Verdict, read_verdict
from pipeline.prompts import TemplateError
from pipeline.specs import ModelSpec
from tracker import clock
from tracker.paths import Workspace
from tracker.record import generation, ledger
from tracker.record.catalogue import Reader, Row
from tracker.record.database import Database
from tracker.record.generation import Claimed

_SAMPLES = """
    SELECT position, status, rephrased, rephrase_request_key FROM sample
    WHERE shared_experiment_id = :id AND position < :end"""
_RECORDS = """
    SELECT r.position, r.id FROM source_record r JOIN source_split p ON p.id = r.source_split_id
    JOIN shared_experiment e ON e.source_dataset_id = p.source_dataset_id WHERE e.id = :id AND r.position < :end"""


@dataclass
class Run(Asking[int]):
    """One run of the engine over the records that are missing."""

    workspace: Workspace
    database: Database
    job: Job
    claimed: Claimed
    plan: Plan
    display: Display
    ending: ClassVar[str] = "complete"
    makes_data: ClassVar[bool] = True
    """Whether its end is the experiment's."""

    def __post_init__(self) -> None:
        self.models = self._models()
        self.progress = Progress(total=self._end())
        self.budget = self._capped_budget()
        self.endpoints = []
        self.records: dict[int, int] = {}
        self.rephrased: dict[int, Row] = {}

    @property
    def run_id(self) -> int:
        return self.claimed.run_id

    @property
    def max_cost(self) -> float | None:
        return self.job.options.max_cost

    @property
    def capped(self) -> str:
        return f"batch {self.job.batch}"

    def _models(self) -> list[ModelSpec]:
        return models_of(self.plan.config)

    def _end(self) -> int:
        """How many records this run is about, from the first one on."""
        return self.plan.n_records

    def _is_done(self, sample: Row) -> bool:
        return sample["status"] not in {"failed", "undecided"}

    def _pending(self, reader: Reader) -> list[int]:
        experiment, end = self.claimed.experiment_id, self._end()
        samples = reader.rows(_SAMPLES, id=experiment, end=end)
        # What people have read, or are reading, is what the judge is asked about.
        self.rephrased = {row["position"]: row for row in samples if row["rephrased"] is not None}
        done = {row["position"]: row["status"] for row in samples if self._is_done(row)}
        for status in done.values():
            self.progress.count(status)
        self.progress.before = self.progress.done
        self.records = {row["position"]: row["id"] for row in reader.rows(_RECORDS, id=experiment, end=end)}
        return [position for position in range(end) if position not in done]

    def _reserve(self, total: float) -> bool:
        assert self.max_cost is not None
        claimed = self.claimed
        return ledger.reserve(self.database, claimed.run_id, claimed.batch_id, total_usd=total, cap_usd=self.max_cost)

    def _beat(self) -> bool:
        return generation.heartbeat(self.database, self.claimed)

    async def _do(self, engine: Engine, position: int) -> None:
        """One record: rephrased, judged as soon as that is there, and written down."""
        plan = self.plan
        sample: dict[str, Any] = {
            "shared_experiment_id": self.claimed.experiment_id, "position": position,
            "source_record_id": self.records[position], "original": plan.original(position), "rephrased": None,
            "verdict": None, "decided_by": None, "error": None, "rephrase_request_key": None, "judge_request_key": None,
        }  # fmt: skip
        try:
            sample |= await self._rephrase(engine, position)
            sample |= await self._judge(engine, position, sample["rephrased"])
        except TemplateError as error:
            # A judge's prompt that reckons with the rephrased text can fail for one answer.
            sample |= {"status": "failed", "error": str(error)}
        except Failed as error:
            failing = "judge_request_key" if sample["rephrase_request_key"] else "rephrase_request_key"
            sample |= {"status": "failed", "error": str(error), failing: error.key}
        sample["updated_at"] = clock.to_text(clock.now())
        engine.record(sample)
        self.progress.count(sample["status"])

    async def _rephrase(self, engine: Engine, position: int) -> Row:
        known = self.rephrased.get(position)
        if known is not None:
            return {name: known[name] for name in ("rephrased", "rephrase_request_key")}
        reply = await engine.ask(self.endpoints[0], self.plan.rephrase_request(position))
        return {"rephrased": clean(reply.text, self.plan.original(position)), "rephrase_request_key": reply.key}

    async def _judge(self, engine: Engine, position: int, rephrased: str) -> Row:
        if self.plan.judge is None:
            return {"status": "accepted"}
        verdict, judged = await self._verdict(engine, position, rephrased)
        status = "accepted" if verdict is Verdict.SAME else "rejected"
        return {"status": status, "verdict": verdict.value, "decided_by": "judge", "judge_request_key": judged.key}

    async def _verdict(self, engine: Engine, position: int, rephrased: str) -> tuple[Verdict, Reply]:
        """The judge's verdict; an answer that says neither is asked for once more, then it is unclear."""
        for again in (False, True):
            request = self.plan.judge_request(position, rephrased, again=again)
            reply = await engine.ask(self.endpoints[-1], request)
            verdict = read_verdict(reply.text)
            if verdict is not Verdict.UNCLEAR:
                break
        return verdict, reply


@dataclass
class Rephrasing(Run):
    """Rephrases the first ``end`` records; what is there then waits for people, or for the judge they test."""

    end: int = 0
    ending: ClassVar[str] = "waiting"
    makes_data: ClassVar[bool] = False

    def _models(self) -> list[ModelSpec]:
        return [self.plan.config.generation]

    def _end(self) -> int:
        return self.end

    def _is_done(self, sample: Row) -> bool:
        return bool(sample["status"] != "failed")

    async def _judge(self, engine: Engine, position: int, rephrased: str) -> Row:
        del engine, position, rephrased
        return {"status": "undecided"}


@dataclass
class JudgeTest(Run):
    """Asks the judge about samples whose verdict people gave; ``verdicts`` has (verdict, request key) by position."""

    samples: Mapping[int, Row] = field(default_factory=dict)
    verdicts: dict[int, tuple[Verdict, str]] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)
    makes_data: ClassVar[bool] = False

    def _models(self) -> list[ModelSpec]:
        return models_of(self.plan.config)[1:]

    def _end(self) -> int:
        return len(self.samples)

    def _pending(self, reader: Reader) -> list[int]:
        del reader
        return list(self.samples)

    async def _do(self, engine: Engine, position: int) -> None:
        try:
            verdict, reply = await self._verdict(engine, position, self.samples[position]["rephrased"])
        except (TemplateError, Failed) as error:
            self.errors[position] = str(error)
            self.progress.count("failed")
            return
        self.verdicts[position] = verdict, reply.key
        self.progress.count("tested")
