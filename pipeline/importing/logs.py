"""Figures out of the logs of trainings that were not done here. Pure.

What is read: what the reference code of MeZO and Hugging Face's Trainer print (Python or JSON objects such as
``{'loss': 0.69, 'epoch': 0.1}``, with any prefix in the line), sentences such as ``Accuracy: 77.0%``, progress bars,
and the counts that a Trainer begins with. A figure counts as the final one only where no training follows it; what a
log does not say is None.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator, Mapping
from datetime import datetime

from pipeline.importing.figures import Figures, Share, n_decimals, plain_name

_NUMBER = r"[-+]?(?:\d[\d,]*\.?\d*|\.\d+)(?:[eE][-+]?\d{1,4})?"
_OBJECT = re.compile(r"\{[^{}]*\}")
_PAIR = re.compile(
    rf"""['"]?(?P<name>[A-Za-z][\w/. -]{{0,60}})['"]?\s*:\s*(?:[\w.]{{1,30}}\()?['"]?(?P<value>{_NUMBER})"""
    r"""(?P<percent>\s*%)?['"]?\)?\s*(?=[,}])"""
)
_SENTENCE = re.compile(
    rf"(?:\b(?P<before>[A-Za-z][\w-]*)[ _]+)?\b(?P<name>acc(?:uracy)?)\b\s*(?:[:=]|\bis\b)\s*(?P<value>{_NUMBER})"
    r"(?P<percent>\s*%)?(?!\w|\.\d)",
    re.IGNORECASE,
)
_JOINED = re.compile(r"\b(test|eval|dev|val|valid|validation|final)_(?=acc)", re.IGNORECASE)
_PROGRESS = re.compile(r"\d%\|[^|]{0,200}\|\s*(\d{1,9})/(\d{1,9})\s*\[")
_EVALUATED = re.compile(r"There are \d+ training samples and (\d{1,9}) validation samples")
_EXAMPLES = re.compile(r"\bNum examples\s*[=:]\s*(\d[\d,]{0,12})")
_COUNTS = {
    "steps": re.compile(r"\bTotal optimization steps\s*[=:]\s*(\d[\d,]{0,12})|\bmax_steps=(\d{1,9})\b"),
    "batch_size": re.compile(
        r"\bTotal train batch size[^=:]{0,80}[=:]\s*(\d[\d,]{0,9})|\bper_device_train_batch_size=(\d{1,7})\b"
    ),
    "seed": re.compile(r"(?<![\w])seed=(\d{1,10})\b"),
    "n_trainable": re.compile(
        r"\bNumber of trainable parameters\s*[=:]\s*(\d[\d,]{0,20})|\btrainable params: (\d[\d,]*)"
    ),
    "n_parameters": re.compile(r"\ball params: (\d[\d,]*)"),
    "logging_steps": re.compile(r"\blogging_steps=(\d{1,7})\b"),
}
_TIME = re.compile(r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d\b")
_TRACEBACK = "Traceback (most recent call last):"
_RAISED = re.compile(r"[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|Iteration|Warning)?\b(?::.*)?")
_KILLED = re.compile(
    r"^\s*(?:Killed|Terminated|Segmentation fault)\b|slurmstepd: error|DUE TO TIME LIMIT|\bCANCELLED\b"
)
_OUT_OF_MEMORY = re.compile(r"\bout of memory\b|OutOfMemoryError", re.IGNORECASE)
_UNDEFINED = re.compile(r"(?:\b|_)acc(?:uracy)?\b['\"]?\s*[:=]\s*['\"]?nan\b", re.IGNORECASE)
_FATAL = re.compile(r"\berror:|command not found|No such file or directory|can't open file", re.IGNORECASE)
_FINAL = frozenset({"", "test", "eval", "evaluation", "final", "overall", "info", "result", "results"})
_DEV = frozenset({"dev", "development"})
_BY_PHASE = frozenset({"val", "valid", "validation"})
_ERROR_LINES = 12
_LONGEST = 20_000


def lines_of(text: str) -> list[str]:
    """The lines of a log; what a progress bar wrote over itself are lines, too."""
    return [line[:_LONGEST] for line in re.split(r"\r\n|\r|\n", text)]


def read_log(*texts: str) -> Figures:
    """The figures in the texts of one run, of which each is a log by itself (stdout, stderr)."""
    found = Figures()
    for text in texts:
        _Log(lines_of(text)).read_into(found)
    return found


class _Log:
    """One pass over the lines of a log."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.shares: list[tuple[int, str, Share]] = []
        self.losses: list[tuple[int, float]] = []
        self.trained_until = -1
        self.ended_training = False
        self.section = ""
        self.n_logged = 0
        self.at_step: int | None = None
        self.evaluated: list[tuple[int, int]] = []
        self.epochs: float | None = None
        self.by_epoch: list[tuple[str, float, float]] = []

    def read_into(self, found: Figures) -> None:
        for at, line in enumerate(self.lines):
            if "%|" in line:
                self._progress(at, line, found)
                # Most lines of most logs are bars and nothing else.
                if "{" not in line and "acc" not in line.lower():
                    continue
            self._counts(line, found)
            if matched := _EVALUATED.search(line):
                self.evaluated.append((at, int(matched[1])))
            objects = [pairs for each in _OBJECT.findall(line) if (pairs := dict(_pairs(each)))]
            for pairs in objects:
                self._object(at, pairs, found)
            if not objects and "acc" in line.lower():
                self._sentences(at, line)
        self._place_epochs(found)
        self._conclude(found)
        self._end(found)

    def _counts(self, line: str, found: Figures) -> None:
        for name, pattern in _COUNTS.items():
            matched = None if name in found.counts else pattern.search(line)
            if matched:
                found.counts[name] = _whole(next(filter(None, matched.groups())))
        if "***** Running" in line:
            self.section = line.lower()
        if matched := _EXAMPLES.search(line):
            if "training" in self.section:
                found.n_train = _whole(matched[1])
            elif "evaluation" in self.section and not self.ended_training:
                found.n_dev = _whole(matched[1])
        if matched := _TIME.search(line[:80]):
            with contextlib.suppress(ValueError):
                found.last_time = datetime.fromisoformat(matched[0].replace(" ", "T"))

    def _progress(self, at: int, line: str, found: Figures) -> None:
        total = found.counts.get("steps")
        for matched in _PROGRESS.finditer(line):
            # Other bars count records and files.
            if total is not None and int(matched[2]) == total:
                self.at_step = int(matched[1])
                found.step = max(found.step or 0, self.at_step)
                if self.at_step:
                    self.trained_until = at

    def _object(self, at: int, pairs: Mapping[str, Share], found: Figures) -> None:
        trains = "loss" in pairs or ("train_loss" in pairs and "train_runtime" not in pairs)
        if "train_runtime" in pairs:
            self.ended_training = True
            self.trained_until = at
            found.duration_s = pairs["train_runtime"].value
            self.epochs = pairs["epoch"].value if "epoch" in pairs else None
        elif trains:
            self.trained_until, self.ended_training = at, False
            self.n_logged += 1
        step = self._step(pairs, found, logs=trains)
        for name, share in pairs.items():
            if trains and name in {"loss", "train_loss", "grad_norm", "learning_rate"}:
                self._note(found, f"train/{name.removeprefix('train_')}", step, share.value, pairs)
                if name.endswith("loss"):
                    found.train_loss = share.value
            elif name == "dev_loss":
                self._note(found, "dev/loss", step, share.value, pairs)
            elif name.endswith("_loss") and name.split("_")[0] in {"eval", "val", "valid", "validation", "test"}:
                self.losses.append((at, share.value))
                if not self.ended_training:
                    self._note(found, "dev/loss", step, share.value, pairs)
            else:
                self._share(at, name, share, step)

    def _step(self, pairs: Mapping[str, Share], found: Figures, *, logs: bool) -> int | None:
        for name in ("step", "global_step", "steps", "iter", "iteration"):
            if name in pairs and pairs[name].value >= 0 and pairs[name].value.is_integer():
                self.at_step = int(pairs[name].value)
                break
        else:
            every = found.counts.get("logging_steps")
            if logs and every:
                self.at_step = self.n_logged * every
        if self.at_step is not None and self.at_step < 2**31:
            found.step = max(found.step or 0, self.at_step)
            return self.at_step
        return None

    def _note(self, found: Figures, name: str, step: int | None, value: float, pairs: Mapping[str, Share]) -> None:
        if step is None and "epoch" in pairs:
            self.by_epoch.append((name, pairs["epoch"].value, value))
        else:
            found.note(name, step, value)

    def _place_epochs(self, found: Figures) -> None:
        """Epochs as steps, where it is known how many steps an epoch has."""
        steps, size = found.counts.get("steps"), found.counts.get("batch_size")
        per_epoch: float | None = None
        if steps and self.epochs:
            per_epoch = steps / self.epochs
        elif found.n_train and size:
            per_epoch = math.ceil(found.n_train / size)
        for name, epoch, value in self.by_epoch:
            at = round(epoch * per_epoch) if per_epoch else None
            found.note(name, at if at is not None and 0 <= at < 2**31 else None, value)

    def _share(self, at: int, name: str, share: Share, step: int | None) -> None:
        kind = _kind(name)
        if kind == "by_phase":
            kind = "final" if self.ended_training else "dev"
        elif kind == "eval":
            kind = "final" if self.ended_training or self.trained_until < 0 else "dev"
        if kind is not None:
            self.shares.append((at, kind if step is None else f"{kind} {step}", share))

    def _sentences(self, at: int, line: str) -> None:
        for matched in _SENTENCE.finditer(_JOINED.sub(r"\1 ", line)):
            before = (matched["before"] or "").lower()
            kind = "final" if before in _FINAL else "dev" if before in _DEV else None
            if before in _BY_PHASE:
                kind = "final" if self.ended_training else "dev"
            value = _float(matched["value"])
            if kind is not None and value is not None:
                share = Share(value, is_percent=bool(matched["percent"]), decimals=n_decimals(matched["value"]))
                self.shares.append((at, kind if self.at_step is None else f"{kind} {self.at_step}", share))

    def _conclude(self, found: Figures) -> None:
        """Which of the shares are final: those that no training follows."""
        # 0.9 and 76.0 in one log are both percent.
        whole = any(1 < share.value <= 100 for _, kind, share in self.shares if kind != "f1")
        for at, label, given in self.shares:
            kind, _, step = label.partition(" ")
            is_percent = given.is_percent or (whole and kind != "f1")
            share = Share(given.value, is_percent, given.decimals).of_one
            if share is not None:
                decimals = given.decimals + 2 * is_percent
                self._book(found, kind, int(step) if step else None, share, decimals, is_last=at >= self.trained_until)
        after = [n for at, n in self.evaluated if at >= self.trained_until]
        # The validation records are measured first, then those of dev.
        if after and found.accuracy is not None:
            found.n_eval = after[0]
            found.n_dev = after[1] if len(after) > 1 else found.n_dev
        if self.ended_training:
            late = [value for at, value in self.losses if at > self.trained_until]
            found.eval_loss = late[-1] if late else found.eval_loss

    @staticmethod
    def _book(found: Figures, kind: str, step: int | None, share: float, decimals: int, *, is_last: bool) -> None:
        if kind == "final" and is_last:
            found.accuracy, found.decimals = share, decimals
        elif kind == "f1" and is_last:
            found.macro_f1 = share
        elif kind == "final":
            found.note("eval/accuracy", step, share)
        elif kind == "dev":
            found.dev_accuracy = share
            if not is_last or step is not None:
                found.note("dev/accuracy", step, share)

    def _end(self, found: Figures) -> None:
        """How the log ends: with an error that nothing follows, killed, or in its middle."""
        starts = [at for at, line in enumerate(self.lines) if _TRACEBACK in line]
        if starts and not any(at > starts[-1] for at in (self.trained_until, *(each[0] for each in self.shares))):
            found.error = _reason(self.lines[starts[-1] :])
            return
        after = (line for line in self.lines[max(0, self.trained_until) :] if "nan" in line.lower())
        found.undefined = next((line.strip()[:500] for line in after if _UNDEFINED.search(line)), found.undefined)
        last = [line.strip() for line in self.lines if line.strip()][-3:]
        is_early = self.trained_until < 0 and not self.shares
        for line in last:
            if _KILLED.search(line):
                found.killed = line[:500]
            elif _OUT_OF_MEMORY.search(line) or (is_early and found.error is None and _FATAL.search(line)):
                found.error = line[:500]


def _pairs(text: str) -> Iterator[tuple[str, Share]]:
    for matched in _PAIR.finditer(text):
        value = _float(matched["value"])
        if value is not None:
            yield (
                plain_name(matched["name"]),
                Share(value, is_percent=bool(matched["percent"]), decimals=n_decimals(matched["value"])),
            )


def _kind(name: str) -> str | None:
    """What a name of a share says it is of: final, dev, eval and by_phase (either, by when it is printed), or f1."""
    if name in {"macro_f1", "f1_macro", "eval_macro_f1", "test_macro_f1"}:
        return "f1"
    matched = re.fullmatch(r"(?:(\w+)_)?acc(?:uracy)?", name)
    if matched is None:
        return None
    before = matched[1] or ""
    if before == "eval":
        return "eval"
    return "dev" if before in _DEV else "by_phase" if before in _BY_PHASE else "final" if before in _FINAL else None


def _reason(lines: list[str]) -> str:
    """The end of a traceback: its last frames and what was raised."""
    end = len(lines)
    for at, line in enumerate(lines[1:], 1):
        if line.strip() and not line.startswith((" ", "\t", "|", "+")) and _RAISED.match(line):
            end = at + 1
            break
    return "\n".join(line.rstrip()[:500] for line in lines[max(0, end - _ERROR_LINES) : end]).strip()


def _float(text: str) -> float | None:
    try:
        value = float(text.replace(",", ""))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _whole(text: str) -> int:
    return int(text.replace(",", ""))
