"""Training without gradients: the steps of ``zo``, dev evaluations between them, and a log that brings both back."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import torch

from pipeline.training.evaluate import evaluate
from pipeline.training.memory import free_memory, out_of_memory
from pipeline.training.schedule import learning_rate_at
from pipeline.training.setup import Outcome, Setup, Stopped
from pipeline.training.splits import order
from pipeline.training.tree import batch_loss, evaluating, pack
from pipeline.training.zo import Memory, ZeroOrder, choose_memory, memory_to_keep
from pipeline.training.zo_files import Evaluations, digest, load, save
from pipeline.training.zo_log import Header, Log, differences, storing
from tracker import clock
from tracker.errors import Conflict, Corrupt, Diverged
from tracker.spec import settings

_REPLAY_S = 60.0
_SHARE_OF_SAVING = 1 / 20
_BEST = "best.safetensors"
_EVALUATIONS = "evaluations.jsonl"


def train(setup: Setup) -> Outcome:
    """Trains ``setup.model``, or goes on where the log in ``setup.checkpoint`` ends; it ends with the best dev weights.

    The same to the bit whether it was interrupted or not, on one machine with one number of threads. The monitor hears
    of an evaluation again when the run goes on after it, of a step once.

    Raises:
        Stopped: the monitor asked for it; the log holds every step.
        Diverged: a loss is not finite.
        TrainingFailed: memory ran out.
        Conflict: the checkpoint is of another model, of other settings, or of noise that is not made here.
        Corrupt: a file of the checkpoint is damaged.
        StorageError: the checkpoint cannot be written.
    """
    with storing(setup.checkpoint):
        setup.checkpoint.mkdir(parents=True, exist_ok=True)
    with out_of_memory(setup.method):
        return _Loop(setup).train()


class _Loop:
    def __init__(self, setup: Setup) -> None:
        self._setup, self._given = setup, setup.hyperparameters
        self._evaluations = Evaluations(setup.checkpoint / _EVALUATIONS)
        self._moving_s, self._saving_s = math.inf, 0.0
        named = list(setup.model.named_parameters())
        model, held = digest(named), _newest_log(setup.checkpoint)
        precision = torch.bfloat16 if setup.precision == "bf16" else torch.float32
        self._frozen = [(each, each.data) for _, each in named if not each.requires_grad]
        for each, data in self._frozen:
            each.data = data.to(precision)
        memory = _memory(setup, precision) if held is None else held.header.memory
        self._zo = ZeroOrder(
            (each for _, each in named),
            seed=self._given.seed,
            eps=self._given.zo_eps,
            directions=self._given.zo_directions,
            memory="keep" if memory == "keep" else "in_place",
            compute_dtype=precision,
            weight_decay=self._given.weight_decay,
        )
        names = {id(each): name for name, each in named}
        self._theta = {
            names[id(each)]: theta for each, theta in zip(self._zo.parameters, self._zo.weights, strict=True)
        }
        header = self._header(model, memory if setup.zo_memory == "auto" else setup.zo_memory)
        self._log = Log.create(_log_path(setup.checkpoint, 0), header) if held is None else self._go_on(held, header)
        self._to_replay = {record.step: record for record in self._log.records}
        self._log.records.clear()
        last = self._to_replay.get(self._given.steps - 1)
        self._train_loss = math.nan if last is None else last.loss

    def train(self) -> Outcome:
        setup, steps = self._setup, self._given.steps
        try:
            for step, evaluation in sorted(self._evaluations.found.items()):
                setup.monitor.evaluated(step, evaluation)
            if steps not in self._evaluations.found:
                self._take_steps()
        finally:
            self._log.close()
        best = self._evaluations.best()
        assert best is not None, "the last step is always measured"
        load(setup.checkpoint / _BEST, self._theta)
        self._zo.release()
        for each, data in self._frozen:
            each.data = data
        return Outcome(best, self._evaluations.found[best].loss, steps, self._train_loss)

    def _take_steps(self) -> None:
        begin, every, steps = self._log.header.base_step, self._given.eval_steps, self._given.steps
        every = every or max(1, steps // 5)
        for step in range(begin, steps + 1):
            if (step % every == 0 or step == steps) and step not in self._evaluations.found:
                self._evaluate(step)
            if step == steps:
                return
            if self._setup.monitor.stopping():
                self._log.sync()
                raise Stopped
            record = self._to_replay.pop(step, None)
            if record is not None:
                self._zo.replay(record)
            else:
                self._step(step)
                self._shorten(step + 1)

    def _step(self, step: int) -> None:
        setup, given = self._setup, self._given
        rate = learning_rate_at(given, step)
        batch = [setup.train[index] for index in order(len(setup.train), given.batch_size, given.seed, step)]
        packs = pack(
            batch,
            token_budget=setup.token_budget,
            device=setup.device,
            only_answers=not setup.classification,
            layout=setup.layout,
        )
        began, computing = clock.monotonic(), 0.0

        def loss() -> float:
            nonlocal computing
            self._wait()
            asked = clock.monotonic()
            with evaluating(setup.model):
                found = batch_loss(setup.model, packs, classification=setup.classification).item()
            computing += clock.monotonic() - asked
            if not math.isfinite(found):
                raise _not_finite(f"The loss of step {step + 1}", rate)
            return found

        record = self._zo.step(loss, step, rate)
        self._wait()
        self._moving_s = min(self._moving_s, clock.monotonic() - began - computing)
        self._log.append(record)
        self._train_loss = record.loss
        tokens = sum(each.tokens for each in packs)
        setup.monitor.step(
            step + 1, {"train/loss": record.loss, "train/learning_rate": rate, "train/tokens": float(tokens)}
        )

    def _evaluate(self, step: int) -> None:
        setup = self._setup
        # An evaluation on disk must never be of steps that a power cut took back.
        self._log.sync()
        self._zo.settle()
        found = evaluate(
            setup.model,
            setup.dev,
            range(len(setup.dev)),
            classification=setup.classification,
            token_budget=setup.token_budget,
            layout=setup.layout,
            stopping=setup.monitor.stopping,
        )
        if not math.isfinite(found.loss):
            raise _not_finite(f"The dev loss after step {step}", learning_rate_at(self._given, max(0, step - 1)))
        best = self._evaluations.best()
        if best is None or found.loss < self._evaluations.found[best].loss:
            self._save(setup.checkpoint / _BEST)
        setup.monitor.evaluated(step, self._evaluations.append(step, found))

    def _shorten(self, step: int) -> None:
        """Saves theta and begins a new log where a replay would take long, and saves take little of the time."""
        pending = (step - self._log.header.base_step) * self._moving_s
        if pending < max(_REPLAY_S, self._saving_s / _SHARE_OF_SAVING) or step == self._given.steps:
            return
        old, place = self._log, self._setup.checkpoint
        self._save(_weights_path(place, step))
        header = replace(old.header, base_step=step, weights=digest(self._theta.items()))
        self._log = Log.create(_log_path(place, step), header)
        old.close()
        _remove_others(place, step)

    def _save(self, path: Path) -> None:
        began = clock.monotonic()
        save(path, self._theta)
        self._saving_s = clock.monotonic() - began

    def _header(self, model: str, memory: str) -> Header:
        given = self._given
        own = {"seed", "zo_eps", "zo_directions", "weight_decay"}
        return Header(
            base_step=0,
            weights=model,
            model=model,
            noise=self._zo.noise_digest,
            seed=given.seed,
            eps=given.zo_eps,
            directions=given.zo_directions,
            memory=memory,
            precision=self._setup.precision,
            weight_decay=given.weight_decay,
            settings={name: value for name, value in settings(given).items() if name not in own},
        )

    def _go_on(self, log: Log, header: Header) -> Log:
        if found := differences(log.header, header):
            log.close()
            raise Conflict(
                f"The checkpoint in {self._setup.checkpoint} cannot be gone on with: {'; '.join(found)}.",
                hint="Train as before, with the versions of before, or begin a new run.",
            )
        base = log.header.base_step
        if base:
            path = _weights_path(self._setup.checkpoint, base)
            load(path, self._theta)
            if digest(self._theta.items()) != log.header.weights:
                raise Corrupt(f"{path} is damaged.", hint="Without it the run cannot go on: begin a new one.")
        _remove_others(self._setup.checkpoint, base)
        return log

    def _wait(self) -> None:
        # Work on a GPU is only ordered, not done, when a call returns.
        if self._setup.device.startswith("cuda"):
            torch.cuda.synchronize()


def _memory(setup: Setup, precision: torch.dtype) -> Memory:
    size = sum(each.numel() for each in setup.model.parameters() if each.requires_grad)
    needed = memory_to_keep(size, directions=setup.hyperparameters.zo_directions, compute_dtype=precision)
    return choose_memory(setup.zo_memory, needed=needed, free=free_memory(setup.device))


def _log_path(checkpoint: Path, base: int) -> Path:
    return checkpoint / f"steps-{base:09d}.log"


def _weights_path(checkpoint: Path, base: int) -> Path:
    return checkpoint / f"weights-{base:09d}.safetensors"


def _newest_log(checkpoint: Path) -> Log | None:
    newest = max(checkpoint.glob("steps-*.log"), default=None)
    return None if newest is None else Log(newest)


def _remove_others(checkpoint: Path, base: int) -> None:
    """Removes the logs and weights of other bases: older ones, and weights that a crash left without their log."""
    kept = {_log_path(checkpoint, base), _weights_path(checkpoint, base)}
    for path in [*checkpoint.glob("steps-*.log"), *checkpoint.glob("weights-*.safetensors")]:
        if path not in kept:
            path.unlink(missing_ok=True)


def _not_finite(what: str, learning_rate: float) -> Diverged:
    return Diverged(
        f"{what} is not finite; the learning rate was {learning_rate:g}.",
        hint="Lower learning_rate; where it fails at the first step, the model or zo_eps is at fault.",
    )
