"""One result directory of the older layout as a training run: its config, else its names; its logs; its data."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pipeline.importing.figures import Figures, is_possible, read_metrics
from pipeline.importing.logs import read_log
from pipeline.importing.report import DataFound, Resolve
from pipeline.importing.run_files import CONFIG, Wrong, plain_bytes, read_config, read_contents, without_secrets
from pipeline.importing.run_names import Named, moment, named, rate
from tracker import clock
from tracker.fingerprint import Json, bytes_digest, identify
from tracker.listings.compare import dotted
from tracker.paths import Workspace
from tracker.record.imported_runs import ImportedRun
from tracker.record.training import COMPLETE, FAILED, INTERRUPTED
from tracker.statistics import wilson

UNKNOWN = "unknown"
_NOT_SHAPING = {
    *("timestamp", "experiment_purpose", "experiment", "description", "training_info", "data", "cuda_devices"),
    *("model", "task", "method", "hyperparameters", "wait_for_completion", "save_model", "notes"),
}
_NAMES = {"lr": "learning_rate", "eps": "zo_eps", "max_steps": "steps", "num_steps": "steps", "rank": "lora_rank"}
_MOST = 2**63 - 1
_EVALUATED = "validation"


class Unusable(Exception):
    """A directory that no run can be made of; the reason is its text."""


@dataclass
class Evaluations:
    """How many records the validation splits of data have, by directory; each is counted once."""

    workspace: Workspace
    counts: dict[str, int | None] = field(default_factory=dict)

    def of(self, data: DataFound) -> int | None:
        if data.directory not in self.counts:
            self.counts[data.directory] = _n_evaluated(self.home(data), data.eval_digest)
        return self.counts[data.directory]

    def home(self, data: DataFound) -> Path:
        """The directory of the files, which for an experiment is below its own in most cases."""
        top = Path(os.path.normpath(self.workspace.root / data.directory))
        return top / data.dataset if (top / data.dataset).is_dir() else top


def read_run(
    directory: Path, parts: tuple[str, ...], *, resolve: Resolve, splits: Evaluations, wrong: Wrong
) -> ImportedRun:
    """The run in ``directory``, whose place below the results is ``parts``; ``wrong`` is told what is not right.

    Raises Unusable.
    """
    names = named(parts)
    config, content = read_config(directory, wrong)
    run = _merged(config, names, wrong)
    files, texts, documents = read_contents(directory, run["learning_rate"], wrong)
    if content is None and not files:
        raise Unusable("neither a config nor a log nor metrics")
    figures = read_log(*texts)
    for document in documents:
        read_metrics(document, figures)
    if run["learning_rate"] is None:
        said = "" if figures.accuracy is None else f"; the accuracy of {figures.accuracy:.1%} in its log is not taken"
        raise Unusable(
            f"no learning rate, neither in a config nor in the directory's name{said}: mend the config, or name "
            "the directory like Copa_zo_temp07_1_6 (1e-6), and import again"
        )
    if content is not None:
        files = {CONFIG: content, **files}
    data = _data(config, names, resolve)
    first = data[0][1]
    columns = _columns(run, figures, None if first is None else splits.of(first), wrong)
    # One that was measured and failed afterwards keeps its reason, too.
    silent = "its log ends without an evaluation and without an error" if texts or documents else "it has no log"
    columns |= _ended(figures, run["started_at"], silent)
    columns |= _said(config, data)
    warning = "; ".join(_contradictions(columns, figures)) or None
    homes = ["" if each is None else splits.workspace.relative(splits.home(each)) for _, each in data]
    rows = tuple(_data_row(*each, columns, home) | {"warning": warning} for each, home in zip(data, homes, strict=True))
    return ImportedRun(
        identity=identify("training_run", _identity(run, config, rows)),
        directory=splits.workspace.relative(Path(os.path.abspath(directory))),  # noqa: PTH100  a link stays a link
        columns=columns,
        settings=_settings(run, config),
        config=config,
        files=files,
        data=rows,
        metrics=figures.metrics,
    )


def _merged(config: Mapping[str, Json], names: Named, wrong: Wrong) -> dict[str, Any]:
    """What the config says, and where it says nothing the directory's names; contradictions are told."""
    given = config.get("hyperparameters")
    hyper = {
        _NAMES.get(str(name), str(name)): value for name, value in (given if isinstance(given, dict) else {}).items()
    }
    stated = rate(hyper.get("learning_rate"))
    if isinstance(hyper.get("learning_rate"), list):
        rates = [each for each in map(rate, hyper["learning_rate"]) if each is not None]
        stated = names.learning_rate if names.learning_rate in rates else rates[0] if len(rates) == 1 else None
    own = {
        "purpose": _text(config.get("experiment_purpose")) or _text(_inside(config, "experiment", "purpose")),
        **{name: _text(config.get(name)) for name in ("model", "task", "method")},
        "learning_rate": stated,
        "stamp": _text(config.get("timestamp")),
    }
    found: dict[str, Any] = {}
    for name, value in own.items():
        other = getattr(names, name)
        if value is not None and other is not None and not _agree(name, value, other):
            wrong(f"the directory says {name.replace('_', ' ')} {other}, {CONFIG} says {value}; the config is taken")
        found[name] = other if value is None else value
    started = moment(found["stamp"]) or moment(names.stamp)
    found = {name: found[name] or UNKNOWN if name in _WORDS else found[name] for name in found}
    return {**found, "hyper": hyper, "started_at": started}


_WORDS = ("purpose", "model", "task", "method")


def _agree(name: str, stated: Any, directory: Any) -> bool:
    if name == "model":
        # Of a local path only the last part is a directory's name.
        return str(stated).rstrip("/").rpartition("/")[2] == str(directory).rpartition("/")[2]
    if name == "stamp":
        return moment(str(stated)) in {None, moment(str(directory))}
    if name == "learning_rate":
        return bool(abs(stated - directory) <= 1e-9 * directory)
    return bool(str(stated) == str(directory))


def _data(config: Mapping[str, Json], names: Named, resolve: Resolve) -> list[tuple[str, DataFound | None]]:
    """The data paths of a run, as the config gives them, with what they mean."""
    paths = _inside(config, "data", "paths")
    given = [path for path in paths if _text(path)] if isinstance(paths, list) else []
    if not given:
        given = [_text(_inside(config, "data", "path")) or _text(_inside(config, "data", "type")) or names.data or ""]
    return [(path, resolve(path) if path else None) for path in given]


def _columns(run: Mapping[str, Any], figures: Figures, n_split: int | None, wrong: Wrong) -> dict[str, Any]:
    hyper, counts = run["hyper"], figures.counts
    steps = _number(hyper.get("steps"), counts.get("steps"))
    n_eval = figures.n_eval if figures.n_eval is not None else n_split
    accuracy = figures.accuracy
    if accuracy is not None and n_eval and not is_possible(accuracy, figures.decimals, n_eval):
        wrong(f"accuracy {accuracy:g} cannot be of {n_eval} records: of how many it is, is not known")
        n_eval = None
    n_correct = round(accuracy * n_eval) if accuracy is not None and n_eval else None
    low, high = wilson(n_correct, n_eval) if n_correct is not None and n_eval else (None, None)
    reached = figures.step if figures.step is not None else steps if accuracy is not None else None
    return {
        **{name: run[name] for name in (*_WORDS, "learning_rate")},
        "batch_size": _number(hyper.get("batch_size"), counts.get("batch_size")),
        "steps": steps, "seed": _number(hyper.get("seed"), counts.get("seed")),
        "zo_eps": rate(hyper.get("zo_eps")), "lora_rank": _number(hyper.get("lora_rank"), None),
        "precision": UNKNOWN, "n_train": figures.n_train, "n_dev": figures.n_dev, "n_eval": n_eval,
        "n_trainable": counts.get("n_trainable"), "n_parameters": counts.get("n_parameters"), "step": reached or 0,
        "train_loss": figures.train_loss, "dev_loss": figures.dev_loss, "dev_accuracy": figures.dev_accuracy,
        "eval_loss": figures.eval_loss, "macro_f1": figures.macro_f1,
        "accuracy": accuracy, "n_correct": n_correct, "accuracy_low": low, "accuracy_high": high,
        "duration_s": figures.duration_s,
    }  # fmt: skip


def _ended(figures: Figures, started: datetime | None, silent: str) -> dict[str, Any]:
    """How a run ended, and when as far as its log tells; ``silent`` is why nothing is known."""
    error = None if figures.error is None else without_secrets(figures.error)
    if figures.measured:
        status = COMPLETE
    elif error is not None and "KeyboardInterrupt" not in error.rpartition("\n")[2]:
        status = FAILED
    elif error is None and figures.undefined is not None:
        status, error = FAILED, f"its accuracy is no number: {without_secrets(figures.undefined)}"
    else:
        status = INTERRUPTED
        error = error or (None if figures.killed is None else without_secrets(figures.killed))
        error = error or silent
    ended = None
    if started is not None and figures.last_time is not None:
        last = figures.last_time.astimezone(UTC)
        ended = last if last >= started else None
    if ended is None and started is not None and figures.duration_s is not None and 0 <= figures.duration_s < 1e9:
        ended = started + timedelta(seconds=figures.duration_s)
    return {
        "status": status,
        "error": error,
        "started_at": None if started is None else clock.to_text(started),
        "finished_at": None if ended is None else clock.to_text(ended),
    }


def _said(config: Mapping[str, Json], data: Sequence[tuple[str, DataFound | None]]) -> dict[str, Any]:
    """What a config says that shapes nothing."""
    command = _text(_inside(config, "training_info", "command"))
    variables = _inside(config, "training_info", "env_vars")
    described = _text(config.get("description")) or _text(_inside(config, "experiment", "description"))
    return {
        "description": described or "",
        "command": command,
        "environment": json.dumps(variables, ensure_ascii=False) if isinstance(variables, dict) and variables else None,
        "data": "+".join(_data_name(path, found) for path, found in data) or UNKNOWN,
    }


def _data_name(path: str, found: DataFound | None) -> str:
    if found is not None:
        return found.name
    parts = [part for part in path.split("/") if part]
    if "original" in parts[-2:]:
        return "original"
    # Data sets lie in a directory named like them, below the experiment's.
    return parts[-2] if len(parts) > 2 else parts[-1] if parts else UNKNOWN


def _data_row(
    path: str, found: DataFound | None, columns: Mapping[str, Any], home: str
) -> dict[str, Any]:  # fmt: skip
    row = {"path": path, "first_record": 0, "n_train": columns["n_train"]}
    if found is None:
        return {
            **row, "directory": path, "dataset": columns["task"], "name": _data_name(path, None),
            "shared_experiment_id": None, "fingerprint": None, "train_digest": "", "eval_digest": None,
            "n_records": None,
        }  # fmt: skip
    return {
        **row, "directory": home, "dataset": found.dataset, "name": found.name,
        "shared_experiment_id": found.experiment_id, "fingerprint": found.fingerprint,
        "train_digest": found.train_digest or "", "eval_digest": found.eval_digest, "n_records": found.n_records,
    }  # fmt: skip


def _contradictions(columns: Mapping[str, Any], figures: Figures) -> Iterator[str]:
    """Where a log shows that another setting was in force than the config says."""
    for name in ("steps", "batch_size", "seed"):
        said = figures.counts.get(name)
        if said is not None and columns[name] is not None and said != columns[name]:
            yield f"its log says {name} {said}, its config {columns[name]}"


def _identity(run: Mapping[str, Any], config: Mapping[str, Json], data: Sequence[Mapping[str, Any]]) -> dict[str, Json]:
    """What the old config says of how it was trained, and on what: another time of the same is another attempt."""
    others = {name: value for name, value in config.items() if name not in _NOT_SHAPING}
    return {
        **others,
        "imported": True,
        **{name: run[name] for name in ("model", "task", "method")},
        "hyperparameters": _hyperparameters(run),
        "data": [
            {"fingerprint": row["fingerprint"], "train": row["train_digest"],
             **({} if row["train_digest"] else {"path": row["path"]})}
            for row in data
        ],
        "evaluation": data[0]["eval_digest"],
    }  # fmt: skip


def _hyperparameters(run: Mapping[str, Any]) -> dict[str, Json]:
    hyper = {**run["hyper"], "learning_rate": run["learning_rate"]}
    whole = ("batch_size", "steps", "seed", "lora_rank")
    return {name: _number(value, None) if name in whole else _plain(value) for name, value in hyper.items()}


def _settings(run: Mapping[str, Any], config: Mapping[str, Json]) -> dict[str, Json]:
    """Every setting under its dotted name."""
    data = config.get("data")
    described = _text(config.get("description")) or _text(_inside(config, "experiment", "description"))
    others = {name: value for name, value in config.items() if name not in _NOT_SHAPING}
    return {
        "experiment.purpose": run["purpose"],
        "experiment.description": described or "",
        **{name: run[name] for name in ("model", "task", "method")},
        **dict(dotted({"data": data if isinstance(data, dict) else {}, "hyperparameters": _hyperparameters(run)})),
        **dict(dotted(others)),
    }


def _plain(value: Json) -> Json:
    """A number written as text (``1e-3``) as a number."""
    if isinstance(value, str) and re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?", value.strip()):
        number = float(value)
        return int(number) if number.is_integer() and abs(number) < _MOST else number
    return value


def _number(given: Json, otherwise: int | None) -> int | None:
    value = _plain(given)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST else otherwise


def _text(value: Json) -> str | None:
    """A text, or a number as one; None for anything else, and for what is empty."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    return str(value).strip()[:1000] or None


def _inside(config: Mapping[str, Json], group: str, name: str) -> Json:
    inner = config.get(group)
    return inner.get(name) if isinstance(inner, dict) else None


def _n_evaluated(directory: Path, digest: str | None) -> int | None:
    """The records of the validation split in ``directory``: of the file with that digest, else of the only one."""
    found = sorted(directory.glob(f"*{_EVALUATED}.jsonl")) if directory.is_dir() else []
    contents = [content for path in found if (content := plain_bytes(path, 2**40)) is not None]
    matching = [content for content in contents if digest is not None and bytes_digest([content]) == digest]
    chosen = matching or (contents if digest is None else [])
    return sum(bool(line.strip()) for line in chosen[0].split(b"\n")) if len(chosen) == 1 else None
