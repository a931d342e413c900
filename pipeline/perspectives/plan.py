"""What a run of `perspectives` would ask: a pure function of a config and its inputs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from pipeline.chats.chat import ChatRequest
from pipeline.generation.plan import chat_request
from pipeline.perspectives.inputs import Input
from pipeline.perspectives.specs import REFERENCE, PerspectivesConfig, identity_parts
from pipeline.sources.records import Source
from pipeline.specs import ModelSpec
from tracker.fingerprint import Identity, content_key, identify
from tracker.record.catalogue import Row

NOTES = "Your notes:"
"""What stands between an input and the notes that an agent took on it."""
_MODEL_IN_NAME = 100
_NAME_BYTES = 240
"""What a file system takes is 255, with the suffix and the number of a second one of that name."""


@dataclass(frozen=True)
class Agent:
    """Who answers under one condition; ``position`` counts from 0, a reference in front included.

    ``seat`` tells agents apart that are told the very same: each of them answers for itself.
    """

    position: int
    condition: str
    reading: str | None
    strategy: str
    seat: int = 0


@dataclass(frozen=True)
class Plan:
    """One agent data set, planned: its identity and every request it can make.

    ``config`` and ``model`` are resolved; ``source`` holds ``inputs``, those that are used.
    """

    config: PerspectivesConfig
    model: ModelSpec
    source: Source
    inputs: tuple[Input, ...]
    draw: int = 0

    @cached_property
    def identity(self) -> Identity:
        parts = identity_parts(self.config, inputs=self.source.splits[0].digest, draw=self.draw)
        return identify("agent_dataset", parts)

    @cached_property
    def agents(self) -> tuple[Agent, ...]:
        """Everybody who is asked, in the order of the config."""
        seats: Counter[tuple[str | None, str]] = Counter()
        found = []
        for position, each in enumerate(self.config.agent_perspectives, int(self.config.add_references)):
            told = (each.reading, each.strategy)
            found.append(Agent(position, each.condition, *told, seats[told]))
            seats[told] += 1
        return tuple(found)

    @property
    def perspectives(self) -> list[Row]:
        """The rows of agent_perspective, the reference's among them."""
        reference = {"condition": REFERENCE, "is_reference": True, "reading": None, "strategy": None}
        asked = [
            {"condition": each.condition, "is_reference": False, "reading": each.reading, "strategy": each.strategy}
            for each in self.agents
        ]
        return [*([reference] if self.config.add_references else []), *asked]

    @property
    def n_responses(self) -> int:
        """How many responses there are to be asked for."""
        return len(self.inputs) * len(self.agents)

    def items(self) -> Iterator[tuple[int, Agent]]:
        """Every (position of an input, agent), input by input."""
        return ((position, agent) for position in range(len(self.inputs)) for agent in self.agents)

    def reading_request(self, position: int, agent: Agent) -> ChatRequest:
        """The request for an agent's notes on an input.

        Each agent takes its own: two that are told to read alike and to answer differently do not share them. What
        tells their requests apart is what they are told, so that adding, moving or renaming others changes nothing.
        """
        assert agent.reading is not None
        own = int(content_key([agent.strategy, agent.seat, self.draw])[:7], 16)
        about = {"task": "read", "text": self.inputs[position].text}
        return chat_request(self.model, f"{agent.reading}\n\n{self.inputs[position].text}", own, about)

    def request(self, position: int, agent: Agent, notes: str | None = None) -> ChatRequest:
        """The request for an agent's response to an input, with the notes that it took."""
        text = self.inputs[position].text
        parts = [agent.strategy, text, *([] if notes is None else [f"{NOTES}\n{notes}"])]
        about = {"task": "respond", "text": text, "condition": agent.condition}
        own = int(content_key([agent.seat, self.draw])[:7], 16) if agent.seat or self.draw else 0
        return chat_request(self.model, "\n\n".join(parts), own, about)

    def name(self, moment: datetime) -> str:
        """``translation_Llama-3.3-70B-Instruct-Turbo_20241220_153000``: the stem of the file."""
        model = re.sub(r"[^\w.-]+", "-", self.model.model.rsplit("/", 1)[-1])[:_MODEL_IN_NAME]
        task, end = self.config.task_type, f"{moment:%Y%m%d_%H%M%S}"
        room = _NAME_BYTES - len(f"{task}__{end}".encode())
        return f"{task}_{model.encode()[:room].decode(errors='ignore')}_{end}"


def shown(requests: Sequence[ChatRequest]) -> str:
    """Requests as a person reads them."""
    return "\n\n".join(
        f"[{message.role}]\n{message.content.strip()}" for request in requests for message in request.messages
    )
