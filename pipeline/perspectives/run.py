"""One run of the engine over the responses that are missing: notes first where an agent reads, then its response."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pipeline.engine.asking import Asking, Display, Progress
from pipeline.engine.engine import Engine, Failed
from pipeline.perspectives.job import Job
from pipeline.perspectives.plan import Agent
from pipeline.perspectives.results import load, results
from tracker import clock
from tracker.paths import Workspace
from tracker.record import agents
from tracker.record.agent_file import answers_digest
from tracker.record.agents import AGENTS, Claimed
from tracker.record.catalogue import Reader, Row, reading
from tracker.record.database import Database
from tracker.record.ledger import Account

_PERSPECTIVES = "SELECT * FROM agent_perspective WHERE agent_dataset_id = :id ORDER BY position"
_ANSWERS = "SELECT * FROM agent_response_overview WHERE agent_dataset_id = :id ORDER BY position, perspective"
_ANSWERED = """
    SELECT position, perspective FROM agent_response WHERE agent_dataset_id = :id AND status = 'answered'"""
_RECORDS = """
    SELECT r.position, r.id FROM source_record r JOIN source_split p ON p.id = r.source_split_id
    JOIN agent_dataset d ON d.source_dataset_id = p.source_dataset_id WHERE d.id = :id"""


@dataclass(frozen=True)
class Figures:
    """What came of a data set: the digest of its answers, and columns of agent_perspective by position."""

    data_digest: str
    results: Mapping[int, Row]


@dataclass
class Run(Asking[tuple[int, Agent]]):
    """Lets every agent answer every input that it has not answered yet."""

    workspace: Workspace
    database: Database
    job: Job
    claimed: Claimed
    display: Display
    items: ClassVar[str] = "responses"
    account: ClassVar[Account] = AGENTS

    def __post_init__(self) -> None:
        self.models = [self.job.plan.model]
        self.progress = Progress(total=self.job.plan.n_responses)
        self.budget = self._capped_budget()
        self.endpoints = []
        self.records: dict[int, int] = {}
        self.figures: Figures | None = None

    @property
    def run_id(self) -> int:
        return self.claimed.run_id

    @property
    def max_cost(self) -> float | None:
        return self.job.options.max_cost

    @property
    def capped(self) -> str:
        return self.claimed.name

    def _pending(self, reader: Reader) -> list[tuple[int, Agent]]:
        done = {(row["position"], row["perspective"]) for row in reader.rows(_ANSWERED, id=self.claimed.dataset_id)}
        for _ in done:
            self.progress.count("answered")
        self.progress.before = self.progress.done
        self.records = {row["position"]: row["id"] for row in reader.rows(_RECORDS, id=self.claimed.dataset_id)}
        if any(each.reference for each in self.job.plan.inputs):
            # While the first answers are waited for, not after the last one.
            threading.Thread(target=load, daemon=True).start()
        return [item for item in self.job.plan.items() if (item[0], item[1].position) not in done]

    async def _do(self, engine: Engine, item: tuple[int, Agent]) -> None:
        position, agent = item
        row: dict[str, Any] = {
            "agent_dataset_id": self.claimed.dataset_id, "position": position, "perspective": agent.position,
            "source_record_id": self.records[position], "status": "answered", "preparation": None, "response": None,
            "reading_request_key": None, "request_key": None, "error": None,
        }  # fmt: skip
        asking = "reading_request_key" if agent.reading is not None else "request_key"
        try:
            if agent.reading is not None:
                notes = await engine.ask(self.endpoints[0], self.job.plan.reading_request(position, agent))
                row |= {"preparation": notes.text.strip(), "reading_request_key": notes.key}
                asking = "request_key"
            request = self.job.plan.request(position, agent, row["preparation"])
            reply = await engine.ask(self.endpoints[0], request)
            row |= {"response": reply.text.strip(), "request_key": reply.key}
        except Failed as error:
            row |= {"status": "failed", "error": str(error), asking: error.key}
        row["updated_at"] = clock.to_text(clock.now())
        engine.record(row)
        self.progress.count(row["status"])

    def _beat(self) -> bool:
        return agents.heartbeat(self.database, self.claimed)

    def _reserve(self, total: float) -> bool:
        assert self.max_cost is not None
        return agents.reserve(self.database, self.claimed, total_usd=total, cap_usd=self.max_cost)

    async def _conclude(self, status: str) -> None:
        if status == "complete" or self.claimed.partial or self.job.options.accept_partial:
            # The score of long texts takes seconds, and the loop may be a notebook's.
            self.figures = await asyncio.to_thread(figures, self)


def figures(run: Run) -> Figures:
    """What came of the data set as it is in the record now."""
    with reading(run.workspace) as reader:
        perspectives = reader.rows(_PERSPECTIVES, id=run.claimed.dataset_id)
        answers = reader.rows(_ANSWERS, id=run.claimed.dataset_id)
    records = [json.loads(line) for line in run.job.plan.source.lines]
    return Figures(answers_digest(answers), results(perspectives, records, answers))
