"""``python -m benchmarks.zo``: steps of zo against two forwards, which they cannot do without, and a reference loop.

The reference is MeZO's loop as Malladi et al. (2023) published it: every candidate a row padded on the left to a
multiple of eight, logits at every position, the noise of each parameter drawn four times, arithmetic out of place. A
step of ours is all that the loop does between two reports. Everybody is given the same batches and takes turns step by
step; CPU time of one thread, medians without the first step. Prints markdown.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from benchmarks import llamas
from pipeline.training import zo_loop
from pipeline.training.encoding import Encoded
from pipeline.training.setup import Setup
from pipeline.training.specs import Hyperparameters
from pipeline.training.splits import order
from pipeline.training.tasks import TASKS
from pipeline.training.tree import Pack, batch_loss, default_token_budget, evaluating, pack
from pipeline.training.zo import Memory, ZeroOrder
from pipeline.training.zo_log import Header, Log, StepRecord
from pipeline.training.zo_noise import Noise

if TYPE_CHECKING:
    from pipeline.training.evaluate import Evaluation

MODES: tuple[Memory, ...] = ("keep", "in_place")
DRAWN = {"keep": 1, "in_place": 3}
"""How often a step draws the noise of every parameter."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, then prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=llamas.data(), help="a directory of the tasks' original data")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, help="default: Copa and CB, as there is data")
    parser.add_argument("--models", nargs="+", choices=llamas.SHAPES, default=["5M", "100M"])
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=16)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    names = given.tasks or [name for name in ("Copa", "CB") if name in llamas.tasks(given.data)]
    records = llamas.encoded(given.data, "train", names)
    print(
        f"`python -m benchmarks.zo`, batches of {given.batch_size}, medians of {given.steps - 1}; {llamas.about()}; "
        "seconds are CPU time"
    )
    for shape in given.models:
        print(f"\nA Llama of {llamas.millions(llamas.llama(shape))} parameters, {llamas.VOCABULARY:,} words, fp32\n")
        races = [_Race(shape, name, records[name], given.steps, given.batch_size) for name in names]
        for race in races:
            race.run()
        _print_race(races)
        _print_parts(shape, races)
        print(
            f"\nThe losses of a batch by our packs and by the reference differ by at most "
            f"{max(each.apart for each in races):.1e}, those of the two modes by {max(map(_modes_apart, races)):.1e}.",
            flush=True,
        )


def _print_race(races: Sequence[_Race]) -> None:
    rows = []
    for race in races:
        floor, reference = race.seconds["floor"], race.seconds["reference"]
        ours = [race.seconds[mode] for mode in MODES]
        rows.append(
            (
                race.name, *(f"{each:,.0f}" for each in race.tokens), f"{floor:.3f}", f"{reference:.3f}",
                *(f"{each:.3f}" for each in ours), *(f"{each / floor:.2f}" for each in ours),
                *(f"{each / reference:.2f}" for each in ours),
            )
        )  # fmt: skip
    head = (
        "task", "tokens, padded", "tokens, packed", "two forwards, s", "reference, s", "`keep`, s", "`in_place`, s",
        "`keep` / forwards", "`in_place` / forwards", "`keep` / reference", "`in_place` / reference",
    )  # fmt: skip
    print(llamas.table(head, rows))


def _print_parts(shape: str, races: Sequence[_Race]) -> None:
    """What a step is made of, each part measured by itself; what they leave of the whole is the loop's own."""
    parts = _parts(shape, races[0].steps)
    rows = []
    for race in races:
        for mode in MODES:
            whole = race.seconds[mode]
            found = [
                race.seconds["floor"], parts[f"{mode} noise"], parts[f"{mode} moves"], race.seconds["batch"],
                parts["log"],
            ]  # fmt: skip
            shown = [f"{1000 * each:,.1f} ({100 * each / whole:.0f}%)" for each in [*found, whole - sum(found)]]
            rows.append((f"{race.name}, `{mode}`", f"{1000 * whole:,.1f}", *shown))
    head = ("step, ms", "two forwards", "noise", "moves and update", "batch and packs", "log", "the rest")
    print(f"\n{llamas.table(('', *head), rows)}")


def _modes_apart(race: _Race) -> float:
    keep, in_place = (race.losses[mode] for mode in MODES)
    return max(abs(one - other) for one, other in zip(keep, in_place, strict=True))


class _Race:
    """Loops of both modes, the reference and two forwards, a step each in turn; medians when it was run."""

    def __init__(self, shape: str, name: str, encoded: Sequence[Encoded], steps: int, batch_size: int) -> None:
        self.shape, self.name, self.steps = shape, name, steps
        self._encoded, self._classification = encoded, TASKS[name].classification
        self._given = Hyperparameters(
            learning_rate=1e-6, batch_size=batch_size, steps=steps, eval_steps=steps, lr_schedule="constant"
        )
        self.seconds: dict[str, float] = {}
        self.losses: dict[str, list[float]] = {}
        self.tokens = (0.0, 0.0)
        self.apart = 0.0

    def run(self) -> None:
        other, tokens = llamas.llama(self.shape), []
        taken: dict[str, list[float]] = {"floor": [], "reference": [], "batch": []}
        with tempfile.TemporaryDirectory() as directory:
            loops = {mode: _Loop(self._setup(mode, Path(directory, mode))) for mode in MODES}
            try:
                for step in range(self.steps):
                    for loop in loops.values():
                        loop.take_a_step()
                    rows, packs = self._batch(step, taken["batch"])
                    if step == 0:
                        self.apart = self._apart(other, rows, packs)
                    taken["floor"].append(_timed(partial(self._two_forwards, other, packs)))
                    taken["reference"].append(_timed(partial(self._reference_step, other, rows, step)))
                    tokens.append((rows.ids.numel(), sum(each.tokens for each in packs)))
            finally:
                for loop in loops.values():
                    loop.end()
        taken |= {mode: loop.seconds for mode, loop in loops.items()}
        self.seconds = {name: statistics.median(each[1:]) for name, each in taken.items()}
        self.losses = {mode: loop.losses for mode, loop in loops.items()}
        self.tokens = (statistics.mean(each for each, _ in tokens), statistics.mean(each for _, each in tokens))

    def _setup(self, memory: Memory, checkpoint: Path) -> Setup:
        return Setup(
            model=llamas.llama(self.shape), train=self._encoded, dev=self._encoded[:2], method="zo",
            hyperparameters=self._given, classification=self._classification, layout="tree",
            token_budget=default_token_budget("cpu"), device="cpu", precision="fp32", checkpoint=checkpoint,
            monitor=Nobody(), zo_memory=memory,
        )  # fmt: skip

    def _batch(self, step: int, seconds: list[float]) -> tuple[Rows, list[Pack]]:
        began = time.thread_time()
        given = self._given
        batch = [self._encoded[at] for at in order(len(self._encoded), given.batch_size, given.seed, step)]
        packs = pack(
            batch,
            token_budget=default_token_budget("cpu"),
            device="cpu",
            only_answers=not self._classification,
        )
        seconds.append(time.thread_time() - began)
        return Rows.of(batch, classification=self._classification), packs

    def _two_forwards(self, model: nn.Module, packs: Sequence[Pack]) -> None:
        for _ in range(2):
            with evaluating(model):
                batch_loss(model, packs, classification=self._classification).item()

    def _reference_step(self, model: nn.Module, rows: Rows, step: int) -> None:
        def loss() -> float:
            model.eval()
            with torch.inference_mode():
                return reference_loss(model, rows).item()

        reference_step(model, loss, seed=step, eps=self._given.zo_eps, rate=self._given.learning_rate)

    def _apart(self, model: nn.Module, rows: Rows, packs: Sequence[Pack]) -> float:
        with evaluating(model):
            ours = batch_loss(model, packs, classification=self._classification)
            return abs((ours - reference_loss(model, rows)).item())


class Nobody:
    """A monitor whom nothing is told."""

    def step(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def evaluated(self, step: int, evaluation: Evaluation) -> None: ...

    def stopping(self) -> bool:
        return False


class _Loop:
    """``zo_loop.train`` in a thread that waits after every step; its own monitor, with each step's seconds and loss."""

    def __init__(self, setup: Setup) -> None:
        self.seconds: list[float] = []
        self.losses: list[float] = []
        self._setup = setup
        self._error: BaseException | None = None
        self._began, self._is_over = 0.0, False
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._train, daemon=True)
        self._thread.start()

    def take_a_step(self) -> None:
        self._go.release()
        self._done.acquire()
        if self._error is not None:
            raise self._error

    def end(self) -> None:
        self._is_over = True
        self._go.release()
        self._thread.join()

    def step(self, step: int, metrics: Mapping[str, float]) -> None:  # noqa: ARG002  it is a Monitor
        self.seconds.append(time.thread_time() - self._began)
        self.losses.append(metrics["train/loss"])
        self._done.release()
        self._go.acquire()
        self._began = time.thread_time()

    def evaluated(self, step: int, evaluation: Evaluation) -> None:  # noqa: ARG002  the same
        self._began = time.thread_time()

    def stopping(self) -> bool:
        return self._is_over and len(self.seconds) < self._setup.hyperparameters.steps

    def _train(self) -> None:
        torch.set_num_threads(1)
        self._go.acquire()
        try:
            if not self._is_over:
                zo_loop.train(replace(self._setup, monitor=self))
        # Whatever it is, it is raised where the step was asked for.
        except BaseException as error:  # noqa: BLE001
            self._error = error
        finally:
            self._done.release()


def _parts(shape: str, rounds: int) -> dict[str, float]:
    """Median seconds of what a step has besides its forwards and its batch, in turns."""
    device = torch.device("cpu")
    noise, optimizers = Noise(0, device), {}
    for mode in MODES:
        optimizers[mode] = ZeroOrder(llamas.llama(shape).parameters(), seed=0, memory=mode)
    size = sum(each.numel() for each in optimizers["keep"].parameters)
    kept, scratch = torch.empty(size), torch.empty(min(noise.chunk, size))
    places = {
        "keep": list(torch.split(kept, noise.chunk)),
        "in_place": [scratch[: min(noise.chunk, size - at)] for at in range(0, size, noise.chunk)],
    }
    taken: dict[str, list[float]] = {}

    def draw(mode: Memory, step: int) -> None:
        for _ in range(DRAWN[mode]):
            for number, out in enumerate(places[mode]):
                noise.fill(out, step, 0, number)

    with tempfile.TemporaryDirectory() as directory:
        header = Header(0, "", "", noise.digest(), 0, 1e-3, 1, "keep", "fp32", 0.0, {})
        log = Log.create(Path(directory, "log"), header)
        for step in range(rounds):
            for mode, optimizer in optimizers.items():
                drawing = _timed(partial(draw, mode, step))
                moving = _timed(partial(optimizer.step, lambda: 0.0, step, 1e-6))
                taken.setdefault(f"{mode} noise", []).append(drawing)
                taken.setdefault(f"{mode} moves", []).append(moving - drawing)
            record = StepRecord(step, 1e-6, 0.0, (0.0,))
            taken.setdefault("log", []).append(_timed(partial(log.append, record)))
        log.close()
    return {name: statistics.median(each[1:]) for name, each in taken.items()}


def _timed(action: Callable[[], object]) -> float:
    began = time.thread_time()
    action()
    return time.thread_time() - began


@dataclass(frozen=True)
class Rows:
    """A batch as the reference gives it to a model."""

    ids: Tensor
    seen: Tensor
    option: Tensor
    answers: Tensor | None

    @classmethod
    def of(cls, batch: Sequence[Encoded], *, classification: bool) -> Rows:
        pairs = [
            (ids, start)
            for record in batch
            for at, (ids, start) in enumerate(zip(record.sequences, record.starts, strict=True))
            if classification or at == record.answer
        ]
        width = -(-max(len(ids) for ids, _ in pairs) // 8) * 8
        ids, seen, option = (torch.zeros(len(pairs), width, dtype=torch.long) for _ in range(3))
        for row, (tokens, start) in enumerate(pairs):
            ids[row, width - len(tokens) :] = torch.tensor(tokens)
            seen[row, width - len(tokens) :] = 1
            option[row, width - len(tokens) + start :] = 1
        return cls(ids, seen, option, torch.tensor([each.answer for each in batch]) if classification else None)


def reference_loss(model: nn.Module, rows: Rows) -> Tensor:
    """A batch's loss, from logits at every position."""
    logits = model(input_ids=rows.ids, attention_mask=rows.seen).logits[:, :-1].contiguous()
    labels, option = rows.ids[:, 1:].clone(), rows.option[:, 1:].bool()
    labels[~option] = -100
    if rows.answers is None:
        return nn.functional.cross_entropy(logits.view(-1, logits.shape[-1]), labels.view(-1))
    labels[~option] = 0
    chosen = torch.log_softmax(logits, -1).gather(-1, labels[..., None])[..., 0]
    scores = (chosen * option).sum(-1) / option.sum(-1)
    return nn.functional.cross_entropy(scores.view(len(rows.answers), -1), rows.answers)


def reference_step(model: nn.Module, loss: Callable[[], float], *, seed: int, eps: float, rate: float) -> None:
    """A step as MeZO's code takes it: noise drawn four times from one seed, arithmetic out of place."""

    def noise() -> Iterable[tuple[nn.Parameter, Tensor]]:
        torch.manual_seed(seed)
        for each in model.parameters():
            yield each, torch.normal(mean=0, std=1, size=each.data.size())

    def perturb(factor: float) -> None:
        for each, z in noise():
            each.data = each.data + factor * z * eps

    perturb(1)
    plus = loss()
    perturb(-2)
    minus = loss()
    slope = (plus - minus) / (2 * eps)
    perturb(1)
    for each, z in noise():
        each.data = each.data - rate * (slope * z)


if __name__ == "__main__":
    main()
