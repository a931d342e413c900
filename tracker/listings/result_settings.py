"""Training runs with every setting that made them: their own, and those with which their data was generated.

Names are dotted and those of MLflow's parameters: ``hyperparameters.learning_rate``, ``generation.temperature``.
"""

# ruff: noqa: S608  what is put into a text here are lists of ids; values are parameters

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tracker.errors import UnknownReference
from tracker.fingerprint import Json, canonical_json, content_key
from tracker.listings.compare import dotted
from tracker.record.catalogue import Reader, Row, portions

SEED = "hyperparameters.seed"
MADE_WITH = ("generation.", "validation.", "train_data.")
"""How the names of settings begin that belong to the data."""
ORIGINAL = "original"
"""What the data of a source data set is called in training runs."""
_OWN = "hyperparameters."
_DIGITS = 12
_REPEATED = ("data.path", "data.paths", "data.type")
_SOURCE = "dataset."
_SHAPING_DATA = ("data", "train_data.fingerprint", "train_data.digest", "eval_data.digest", "model.digest")


@dataclass(frozen=True, slots=True)
class Result:
    """A training run: its row as ``results.runs`` gives it, all its settings, and which of them shape what comes out.

    ``point`` is what runs have in common that differ in nothing but the seed; ``made_with`` has the settings of each
    of its data sets that was generated.
    """

    row: Row
    settings: dict[str, Json]
    shaping: frozenset[str]
    point: str
    made_with: tuple[Mapping[str, Json], ...] = ()

    @property
    def id(self) -> int:
        return int(self.row["id"])

    @property
    def is_original(self) -> bool:
        """Whether it was trained on original data alone; data that is not in the record is of no experiment, too."""
        return not self.made_with and set(str(self.row["data"]).split("+")) == {ORIGINAL}

    @property
    def accuracy(self) -> float | None:
        """The share of right answers, of a run that is complete."""
        return self.row["accuracy"] if self.row["status"] == "complete" else None


def load(reader: Reader, rows: Sequence[Row]) -> list[Result]:
    """Results of rows as ``results.runs`` gives them, in their order."""
    data: dict[int, list[Row]] = {row["id"]: [] for row in rows}
    for some in portions(list(data)):
        for each in reader.rows(
            f"""SELECT d.training_run_id, d.fingerprint, d.train_digest, d.eval_digest, d.shared_experiment_id, b.name
                AS batch FROM training_data d LEFT JOIN batch b ON b.id = d.batch_id
                WHERE d.training_run_id IN ({some}) ORDER BY d.training_run_id, d.position"""
        ):
            data[each["training_run_id"]].append(each)
    identities = {
        each["id"]: json.loads(each["identity"])["identity"]
        for some in portions(list(data))
        for each in reader.rows(f"SELECT id, identity FROM training_run WHERE id IN ({some})")
    }
    used = {each["shared_experiment_id"] for found in data.values() for each in found} - {None}
    made = {
        each["id"]: _made_with(each)
        for some in portions(sorted(used))
        for each in reader.rows(f"SELECT id, settings, identity FROM shared_experiment WHERE id IN ({some})")
    }
    return [_result(row, identities[row["id"]], data[row["id"]], made) for row in rows]


def known(results: Iterable[Result]) -> list[str]:
    """The names of all settings that any of the results has."""
    return list(dict.fromkeys(name for each in results for name in each.settings))


def full_name(results: Sequence[Result], name: str) -> str:
    """The dotted name of the setting meant by ``name``: itself, or its last part where that is clear.

    A hyperparameter comes before a setting of the data. Raises UnknownReference: what it could be, or close matches.
    """
    names = known(results)
    for exact in (name, f"{_OWN}{name}"):
        if exact in names:
            return exact
    # As the SQL views write it, too.
    meant = [each for each in names if name in (each.rpartition(".")[2], each.replace(".", "_"))]
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise UnknownReference("single setting", name, hint=f"It could be {' or '.join(meant)}.")
    short = [each.rpartition(".")[2] for each in names]
    raise UnknownReference("setting", name, [*names, *short], hint="`synthtrack result best --settings` shows them.")


def _result(row: Row, stored: Mapping[str, Json], data: Sequence[Row], made: dict[int, dict[str, Json]]) -> Result:
    own = {name: value for name, value in row["settings"].items() if name not in _REPEATED}
    made_of = [made.get(each["shared_experiment_id"]) for each in data]
    made_with = tuple(each for each in made_of if each is not None)
    of_data = {
        name: _joined([each and each.get(name) for each in made_of], data)
        for name in dict.fromkeys(name for each in made_with for name in each)
    }
    settings: dict[str, Json] = {
        **own,
        "model.digest": content_key(stored.get("model"))[:_DIGITS],
        "data": row["data"],
        "train_data.fingerprint": _joined([each["fingerprint"] for each in data], data),
        "train_data.digest": _joined([each["train_digest"][:_DIGITS] for each in data], data),
        "train_data.batch": _joined([each["batch"] for each in data], data),
        "eval_data.digest": data[0]["eval_digest"] and data[0]["eval_digest"][:_DIGITS],
        **of_data,
    }
    identity = dict(dotted(stored))
    shaping = {name for name in own if name in identity or name == "model"} | {*_SHAPING_DATA, *of_data}
    identity.pop(SEED, None)
    return Result(row, settings, frozenset(shaping), content_key(identity), made_with)


def _made_with(experiment: Row) -> dict[str, Json]:
    """The settings that shaped a synthetic data set, but for the source: that is the task's."""
    stored = json.loads(experiment["identity"])
    given, shaping = json.loads(experiment["settings"]), dict(dotted(stored.get("identity", stored)))
    found = {name: given.get(name, value) for name, value in shaping.items() if not name.startswith(_SOURCE)}
    return {name if "." in name else f"train_data.{name}": value for name, value in found.items()}


def _joined(values: Sequence[Json], data: Sequence[Row]) -> Json:
    """The value of the one data set, or the text of all values of a mix: ``original + 0.5``, ``0.5 + 0.5``.

    A mix is a value of its own, because it is neither of its parts.
    """
    absent = ["original" if each["shared_experiment_id"] is None else "not set" for each in data]
    if len(values) == 1 or ("not set" not in absent and all(value is None for value in values)):
        return values[0]
    parts = (instead if value is None else value for value, instead in zip(values, absent, strict=True))
    return " + ".join(part if isinstance(part, str) else canonical_json(part) for part in parts)
