"""Kills at random, drawn from a seed: a command of a subject is killed, perhaps its resumption too, and finished."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.faults.killing import Ended
from tests.faults.subjects import IN_FLIGHT, Found, Ground, Subject
from tests.llm_server import Server
from tests.workspaces import rows

BEFORE, WITHIN, AFTER = "before", "within", "after"
_SHOWN = 2000


@dataclass(frozen=True)
class Undisturbed:
    """What a subject's commands do when nothing kills them: steps and seconds of each, and what comes of it."""

    steps: list[int]
    seconds: list[float]
    found: Found


@dataclass
class Trial:
    """One subject killed once, or twice in a row, as the seed says; ``story`` tells what happened, for failures."""

    ground: Ground
    server: Server
    subject: Subject
    seed: int
    undisturbed: Undisturbed
    hits: list[str] = field(default_factory=list)
    story: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Kills, resumes and compares."""
        draw = random.Random(f"{self.subject.name} {self.seed}")
        at = draw.choices(range(len(self.subject.script)), weights=self.undisturbed.steps)[0]
        try:
            self._kill(draw, at)
            self._finish(at)
        except AssertionError as error:
            error.add_note("\n".join([f"{self.subject.name}, seed {self.seed}:", *self.story]))
            raise

    def _kill(self, draw: random.Random, at: int) -> None:
        self.ground.put(before(self.subject, at))
        self.server.reset()
        known = self._n_paid()
        for _ in range(1 + self.seed % 2):
            ended = self._killed(draw, at)
            self.hits.append(_hit(ended))
            self.story.append(f"{self.hits[-1]}, at step {ended.steps}, after {ended.seconds:.2f} s")
            assert ended.was_killed or self._is_done(ended), ended.done
            if self.subject.asks:
                answered = sum(self.server.stats()["answered"].values())
                lost = answered - (self._n_paid() - known)
                # In flight, and in the one group that waits for its commit.
                assert lost <= 2 * IN_FLIGHT * self.hits.count(WITHIN), f"{lost} of {answered} answers are lost"
            if draw.random() < 0.5 and (self.ground.root / "tracker.db").exists():
                self._command("verify", "--fix")
                self._command("verify")

    def _killed(self, draw: random.Random, at: int) -> Ended:
        command = self.subject.script[at]
        step, after_s = draw.randint(1, self.undisturbed.steps[at]), draw.uniform(0, self.undisturbed.seconds[at])
        if draw.random() < 0.5:
            self.story.append(f"{' '.join(command)} is killed before its step {step}")
            return self.ground.forge.killed(self.ground.root, *command, step=step, program=self.subject.program)
        self.story.append(f"{' '.join(command)} is killed after {after_s:.3f} s")
        return self.ground.forge.killed(self.ground.root, *command, after_s=after_s, program=self.subject.program)

    def _finish(self, at: int) -> None:
        last = len(self.subject.script) - 1
        for number, command in enumerate(self.subject.script[at:], at):
            ended = self.ground.forge.killed(self.ground.root, *command, program=self.subject.program)
            self.story.append(f"{' '.join(command)}: exit code {ended.done.code}")
            assert self._is_done(ended), ended.done
            if self.subject.mends:
                self._command("verify", "--fix")
            if number in {at, last}:
                self._command("verify")
        differences = list(_differences(self.undisturbed.found, self.subject.found(self.ground.place)))
        assert not differences, "\n".join(differences)

    def _command(self, *command: str) -> None:
        done = self.ground.forge.run(self.ground.root, *command)
        self.story.append(f"{' '.join(command)}: exit code {done.code}")
        assert done.code == 0, f"{done.out[:_SHOWN]}\n{done.err[:_SHOWN]}"

    def _is_done(self, ended: Ended) -> bool:
        return ended.done.code in {0, *self.subject.codes}

    def _n_paid(self) -> int:
        """How many answers the ledger holds; none where there is no ledger yet."""
        try:
            return int(rows(self.ground.root, "SELECT COUNT(*) FROM attempt WHERE failure IS NULL")[0][0])
        except sqlite3.OperationalError:
            return 0


def before(subject: Subject, at: int) -> str:
    """The name under which a ground keeps what a subject's command finds."""
    return f"{subject} {at}"


def undisturbed(ground: Ground, subject: Subject) -> Undisturbed:
    """Runs a subject's commands to their end, and keeps what each of them found."""
    ground.take(subject.prepare)
    steps, seconds = [], []
    for at, command in enumerate(subject.script):
        ground.keep(before(subject, at))
        ended = ground.forge.killed(ground.root, *command, program=subject.program)
        assert ended.done.code in {0, *subject.codes}, ended.done
        assert ended.steps > 0, f"{command} has no step"
        steps.append(ended.steps)
        seconds.append(ended.seconds)
    return Undisturbed(steps, seconds, subject.found(ground.place))


def _hit(ended: Ended) -> str:
    if not ended.was_killed:
        return AFTER
    return WITHIN if ended.steps else BEFORE


def _differences(expected: Found, found: Found) -> Iterator[str]:
    for name in sorted({*expected, *found}):
        if expected.get(name) != found.get(name):
            yield f"{name}: {_shown(found.get(name))}\n  and not: {_shown(expected.get(name))}"


def _shown(value: Any) -> str:
    text = "\n    ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ..."
