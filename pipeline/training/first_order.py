"""First-order training: transformers' Trainer with AdamW, on the batches, layout and schedule that all methods share.

Of Trainer it uses the optimizer (no weight decay on biases and norms), the clipping of gradients to norm 1 (its own
default), and the state that a checkpoint holds; data order, loss, schedule, evaluation and what is said are ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from pipeline.training import checkpoint_files, tree
from pipeline.training.encoding import Encoded
from pipeline.training.evaluate import evaluate
from pipeline.training.memory import out_of_memory
from pipeline.training.schedule import learning_rate_at
from pipeline.training.setup import Outcome, Setup, Stopped
from pipeline.training.splits import order
from tracker import clock
from tracker.errors import Diverged

_BEST = "best.safetensors"
_WEIGHTS = "weights.safetensors"
_GRADIENT_NORM = 1.0
_SAVE_EVERY_S = 300.0
_MOST_TIME_SAVING = 1 / 20


def train(setup: Setup) -> Outcome:
    """Trains ``setup.model``, or goes on from the last whole checkpoint; the model ends with the best dev weights.

    The same to the bit whether it was interrupted or not, on one machine with one number of threads.

    Raises:
        Stopped: the monitor asked for it; the checkpoint is written.
        Diverged: the loss is not finite.
        TrainingFailed: memory ran out.
        Corrupt: a file of the checkpoint is damaged.
        StorageError: a checkpoint cannot be written.
    """
    config: Any = setup.model.config
    use_cache = config.use_cache
    with out_of_memory(setup.method), _deterministic():
        found = checkpoint_files.newest(setup.checkpoint)
        # The best of steps that are taken again is found again: here it must be the best of those before.
        checkpoint_files.restore(setup.checkpoint / _BEST, None if found is None else found[0])
        loop = _Loop(setup)
        if found is None:
            loop.train()
        else:
            loop.train_loss = found[1]["train_loss"]
            loop.train(resume_from_checkpoint=str(found[0]))
        best = checkpoint_files.read_about(setup.checkpoint / _BEST)
        assert best is not None, "the last step is always measured"
        checkpoint_files.read_weights(setup.model, setup.checkpoint / _BEST)
    # Trainer turned it off; a saved model would be slow at writing text.
    config.use_cache = use_cache
    model: nn.Module = setup.model
    model.eval()
    return Outcome(best["step"], best["loss"], setup.hyperparameters.steps, loop.train_loss)


class _Batches(Dataset[list[Encoded]]):
    """The batch of every step: Trainer sees one epoch of them, and skips to the step where it resumes."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup

    def __len__(self) -> int:
        return self._setup.hyperparameters.steps

    def __getitem__(self, step: int) -> list[Encoded]:
        given = self._setup.hyperparameters
        indices = order(len(self._setup.train), given.batch_size, given.seed, step)
        return [self._setup.train[index] for index in indices]


class _Loop(Trainer):
    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.train_loss = math.nan
        self._tokens = 0
        self._saved_at = clock.monotonic()
        self._saving_took = 0.0
        self._saved_step = 0
        super().__init__(setup.model, _arguments(setup), train_dataset=_Batches(setup), callbacks=[_Steps(self)])
        self.remove_callback(PrinterCallback)

    def get_train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(cast("_Batches", self.train_dataset), batch_size=1, collate_fn=lambda batches: batches[0])

    def create_scheduler(self, *_: Any, **__: Any) -> LambdaLR:
        given = self.setup.hyperparameters
        optimizer = cast("torch.optim.Optimizer", self.optimizer)
        # It multiplies the optimizer's own rate, which is 1: so the rate is exactly the schedule's.
        self.lr_scheduler = LambdaLR(optimizer, lambda step: learning_rate_at(given, step))
        return self.lr_scheduler

    def compute_loss(self, model: nn.Module, inputs: Any, *_: Any, total: int = 1, **__: Any) -> Any:
        """What the pack ``inputs`` adds to the loss of a batch that weighs ``total``."""
        classification = self.setup.classification
        with self.setup.autocast():
            return tree.losses(tree.scores(model, inputs), inputs, classification=classification).sum() / total

    def training_step(self, model: nn.Module, inputs: Any, *_: Any, **__: Any) -> Tensor:
        model.train()
        packs = self._packs(inputs)
        total = tree.weight(packs, classification=self.setup.classification)
        loss = torch.zeros((), device=self.args.device)
        for each in packs:
            part = self.compute_loss(model, each, total=total)
            self.accelerator.backward(part)
            loss += part.detach()
            # Its graph must be gone before the next one is made.
            del part
        self._tokens = sum(each.tokens for each in packs)
        self.train_loss = loss.item()
        if not math.isfinite(self.train_loss):
            raise self._not_finite("loss", self.train_loss, self.state.global_step + 1)
        return loss

    def _packs(self, batch: Sequence[Encoded]) -> list[tree.Pack]:
        setup = self.setup
        size = math.ceil(len(batch) / setup.hyperparameters.gradient_accumulation)
        return [
            each
            for start in range(0, len(batch), size)
            for each in tree.packs(
                batch[start : start + size],
                token_budget=setup.token_budget,
                device=self.args.device,
                only_answers=not setup.classification,
                layout=setup.layout,
            )
        ]

    def begin(self) -> None:
        """Measures the model where it stands, if the run was interrupted before or while it did."""
        self._saved_step = self.state.global_step
        if self._due(self.state.global_step):
            self._measure()

    def after_step(self) -> None:
        """Says what the step did; saves, then measures, so that a run stopped while measuring resumes there.

        It saves after some minutes, earlier where it is stopped or measures next, but seldom enough to take little of
        the time: what is measured after the last checkpoint, a resumed run measures again.
        """
        setup, step = self.setup, self.state.global_step
        rate = learning_rate_at(setup.hyperparameters, step - 1)
        setup.monitor.step(
            step, {"train/loss": self.train_loss, "train/learning_rate": rate, "train/tokens": float(self._tokens)}
        )
        stopping = step < setup.hyperparameters.steps and setup.monitor.stopping()
        since = clock.monotonic() - self._saved_at
        affordable = since >= self._saving_took / _MOST_TIME_SAVING
        if stopping or (affordable and (since > _SAVE_EVERY_S or self._due(step))):
            self._save_whole()
        if stopping:
            raise Stopped
        if self._due(step):
            try:
                self._measure()
            except Stopped:
                if self._saved_step < step:
                    self._save_whole()
                raise

    def _due(self, step: int) -> bool:
        given = self.setup.hyperparameters
        return step % (given.eval_steps or max(1, given.steps // 5)) == 0 or step == given.steps

    def _measure(self) -> None:
        setup, step = self.setup, self.state.global_step
        with setup.autocast():
            found = evaluate(
                setup.model, setup.dev, range(len(setup.dev)), classification=setup.classification,
                token_budget=setup.token_budget, layout=setup.layout, stopping=setup.monitor.stopping,
            )  # fmt: skip
        if not math.isfinite(found.loss):
            raise self._not_finite("loss on dev", found.loss, step)
        setup.monitor.evaluated(step, found)
        path = setup.checkpoint / _BEST
        best = checkpoint_files.read_about(path)
        if best is None or found.loss < best["loss"]:
            checkpoint_files.write_weights(setup.model, path, {"step": step, "loss": found.loss})

    def _not_finite(self, what: str, value: float, step: int) -> Diverged:
        rate = learning_rate_at(self.setup.hyperparameters, max(0, step - 1))
        return Diverged(
            f"The {what} is {value} at step {step}, with learning rate {rate:g}.",
            hint="Use a lower learning_rate, or a warmup." + (" Or fp32." if self.setup.precision != "fp32" else ""),
        )

    def _save_whole(self) -> None:
        began = clock.monotonic()
        step = self.state.global_step
        directory = self.setup.checkpoint / f"checkpoint-{step}"
        with checkpoint_files.making(directory, {"step": step, "train_loss": self.train_loss}):
            self._save_checkpoint(self.setup.model, trial=None)
            checkpoint_files.keep(self.setup.checkpoint / _BEST, directory)
        self._saved_at, self._saved_step = clock.monotonic(), step
        self._saving_took = self._saved_at - began

    def save_model(self, output_dir: str | None = None, *_: Any, **__: Any) -> None:
        """Of LoRA the adapters alone, and never asking the hub, as peft's own saving does."""
        directory = self.setup.checkpoint / cast("str", output_dir)
        directory.mkdir(parents=True)
        checkpoint_files.write_weights(self.setup.model, directory / _WEIGHTS, {})

    def _load_from_checkpoint(self, resume_from_checkpoint: str, *_: Any, **__: Any) -> None:
        checkpoint_files.read_weights(self.setup.model, self.setup.checkpoint / resume_from_checkpoint / _WEIGHTS)


class _Steps(TrainerCallback):
    def __init__(self, loop: _Loop) -> None:
        self._loop = loop

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._loop.begin()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self._loop.after_step()


def _arguments(setup: Setup) -> TrainingArguments:
    given = setup.hyperparameters
    # Renamed in transformers 5; without reentrance LoRA's frozen embeddings are no obstacle.
    new = hasattr(TrainingArguments, "activation_checkpointing")
    checkpointing = "activation_checkpointing" if new else "gradient_checkpointing"
    settings: dict[str, Any] = {
        "output_dir": str(setup.checkpoint),
        "max_steps": given.steps,
        "per_device_train_batch_size": 1,
        "learning_rate": 1.0,  # see create_scheduler
        "weight_decay": given.weight_decay,
        "max_grad_norm": _GRADIENT_NORM,
        "seed": given.seed,
        "use_cpu": setup.device == "cpu",
        "eval_strategy": "no",
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
        checkpointing: setup.gradient_checkpointing,
        f"{checkpointing}_kwargs": {"use_reentrant": False},
    }
    arguments = TrainingArguments(**settings)
    if arguments.n_gpu > 1:
        # Several GPUs train several runs, never one.
        arguments._n_gpu = 1  # noqa: SLF001  there is no other way to say so
    return arguments


@contextmanager
def _deterministic() -> Iterator[None]:
    switches: Any = torch.utils.deterministic
    before, filling = torch.are_deterministic_algorithms_enabled(), switches.fill_uninitialized_memory
    torch.use_deterministic_algorithms(mode=True)
    # It would show what reads memory that was never written; it takes time, and no result depends on it.
    switches.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(mode=before)
        switches.fill_uninitialized_memory = filling
