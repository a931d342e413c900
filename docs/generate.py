"""Writes the pages that are made from the code: ``python -m docs.generate``; with ``--check`` it only compares.

schema.md from the tables, errors.md from the error tree, cli.md from the commands, configuration.md (of `generate`),
training.md (of `train`), perspectives_configuration.md and pool-configuration.md (of `pool`) from the specs, queries.md
from the questions that `sql --schema` prints.
"""

from __future__ import annotations

import argparse
import inspect
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from sqlalchemy import text
from sqlmodel import SQLModel

import tracker.schema
from cli.main import COMMANDS, LazyGroup, cli
from docs import queries as questions
from pipeline.perspectives.specs import AgentModelSpec, DataConfigSpec, PerspectivesConfig, PerspectiveSpec
from pipeline.pools.specs import BenchmarksConfig, BenchmarkSpec, MixingSpec, PoolConfig, StreamSpec
from pipeline.specs import (
    DatasetSpec,
    ExperimentSpec,
    FilesSpec,
    GenerationConfig,
    GenerationSpec,
    ModelSpec,
    PriceSpec,
    ValidationSpec,
)
from pipeline.training.specs import (
    METHODS,
    DataSpec,
    Hyperparameters,
    TrainingConfig,
    TrainingExperimentSpec,
    effective,
    without_effect,
)
from tracker import errors
from tracker.paths import Workspace
from tracker.record.database import open_database
from tracker.spec import Spec, key_of, marks

HERE = Path(__file__).parent
HEAD = "<!-- Made by `make docs` from the code; edit that instead. -->\n"


CONFIGURATION = """\
Keys that shape the data are part of the fingerprint: another value is another experiment. Some do so through something
that is part of it:

- *through the source*: the fingerprint holds a digest over the data set's name, its stem, and the names and content of
  its files. The same in another place is the same experiment; with another name or other content it is not.
- *through the endpoint*: an address is part of the fingerprint unless `endpoint` gives the service a name.

All others change how, not what: they can be changed at any time and nothing is made anew.

The rephrased file is JSON Lines in UTF-8 whose lines end in a plain newline, whatever the input's lines end in (or
whatever else its format is); in a record of a .jsonl file everything but the rephrased text stands as it was. The other
splits are copied byte for byte."""
TRAINING = """\
A complete config to begin with is `configs/stage2/copa_tiny.yaml`; what the tasks ask is in [tasks.md](tasks.md). Every
key of `hyperparameters` takes a value or a list of values: lists span a grid, the last one varying fastest, and every
point of it is a training run. `1e-6` is a number, however it is written. On the command line it is
`--set 'hyperparameters.seed=[0,1]'`.

Keys that shape the model are part of the training's fingerprint: another value is another run, the same again another
attempt. Where methods are named, the key does something for these alone; for others it is no part of the fingerprint,
and whoever gives it is warned. Some keys shape the model through something that is part of the fingerprint:

- *through the data*: it holds digests of the files and of every question that is made of them, and the fingerprint of
  the experiment that the data comes from. The same data in another place is the same run.
- *through the model*: it holds what the model is (the commit on the hub, or a digest of the directory's files), not
  what it is called.

All others change how, where and why, not what."""
PERSPECTIVES = """\
A config is JSON, in which `//` comments may stand, or YAML. What the keys do together is in
[perspectives.md](perspectives.md); complete configs to begin with are in `configs/perspectives/`.

Keys that shape the data are part of the fingerprint: another value is another agent data set. That says nothing of what
is paid: an answer is known again by its own request, whichever data set it was made for. Some keys shape the data
through something that is part of the fingerprint:

- *through the inputs*: it holds a digest of the inputs that are used, texts and references. The same inputs in another
  file, or drawn in another way, are the same data set.
- *through the endpoint*: an address is part of it unless `endpoint` gives the service a name.

All others change how, not what."""
POOLS = """\
How these are used is in [pools.md](pools.md). The first four groups are the benchmarks' configuration,
`configs/pools/data_config.yaml`; the last one is a pool's, `configs/pools/NAME.yaml`.

Keys that shape a benchmark or a pool are part of its fingerprint: another value is another one. Of `path`, `split` and
`configs` that is the data, not where it is; of ratios, split and count it is how many tasks of each bin they come to.
What a pool says itself goes before what the benchmarks' configuration says, and the value in force is what counts."""
READING = "Read it with any SQLite tool, `sqlite3 tracker.db`, or Datasette; never write to it while a command runs."
SPECS: dict[str, type[Spec]] = {
    "top level": GenerationConfig,
    "experiment": ExperimentSpec,
    "dataset": DatasetSpec,
    "dataset.files": FilesSpec,
    "generation": GenerationSpec,
    "validation": ValidationSpec,
    "generation.price, validation.price": PriceSpec,
}
TRAINING_SPECS: dict[str, type[Spec]] = {
    "top level": TrainingConfig,
    "experiment": TrainingExperimentSpec,
    "data": DataSpec,
    "hyperparameters": Hyperparameters,
}
PERSPECTIVES_SPECS: dict[str, type[Spec]] = {
    "top level": PerspectivesConfig,
    "model_config": AgentModelSpec,
    "agent_perspectives": PerspectiveSpec,
    "data_config": DataConfigSpec,
    "model_config.price": PriceSpec,
}
POOL_SPECS: dict[str, type[Spec]] = {
    "benchmarks' configuration": BenchmarksConfig,
    "benchmarks.NAME": BenchmarkSpec,
    "stream_generation": StreamSpec,
    "mixing_rules": MixingSpec,
    "a pool": PoolConfig,
}
_OF_POOLS: dict[tuple[type[Spec], str], str] = {
    (BenchmarksConfig, "benchmarks"): "see below",
    (BenchmarksConfig, "stream_generation"): "see below",
    (BenchmarksConfig, "mixing_rules"): "",
    (BenchmarkSpec, "path"): "through the data",
    (BenchmarkSpec, "split"): "through the data",
    (BenchmarkSpec, "configs"): "through the data",
    (MixingSpec, "exclude_combinations"): "",
    (PoolConfig, "name"): "of the pool",
}
_THROUGH_SOURCE: dict[type[Spec], str] = dict.fromkeys((DatasetSpec, FilesSpec), "through the source")


def schema() -> str:
    """The tables with what each column means, and the SQL views as the migrations make them."""
    lines = [HEAD, "# The database", "", _paragraph(tracker.schema), "", READING, ""]
    lines += ["## Views", "", "What people ask most, joined already.", ""]
    query = text("SELECT name, sql FROM sqlite_master WHERE type = 'view' ORDER BY name")
    with (
        tempfile.TemporaryDirectory() as directory,
        open_database(Workspace(Path(directory), environ={})) as database,
        database.reading() as connection,
    ):
        for name, sql in connection.execute(query):
            lines += [f"### {name}", "", "```sql", _dedent(sql), "```", ""]
    lines += ["## Tables", ""]
    for model in _tables():
        lines += [
            f"### {model.__tablename__}",
            "",
            str(inspect.getdoc(model)),
            "",
            *_header("column", "type", "meaning"),
        ]
        for name, column in model.metadata.tables[str(model.__tablename__)].columns.items():
            notes = [model.model_fields[name].description or ""]
            notes += [f"references `{key.target_fullname}`" for key in column.foreign_keys]
            kind = str(column.type).partition("(")[0].lower() + ("" if column.nullable else ", not null")
            key = ", key" if column.primary_key else ""
            lines.append(f"| `{name}` | {kind}{key} | {'; '.join(filter(None, notes))} |")
        lines.append("")
    return "\n".join(lines)


def error_tree() -> str:
    """The error tree with exit codes."""
    _, _, tree = str(errors.__doc__).partition("\n")
    lines = [HEAD, "# Errors and exit codes", "", _tree(tree), "", *_header("error", "exit code", "meaning")]
    tree_of_errors: list[type[errors.Error]] = [errors.Error, *_subclasses(errors.Error)]
    found = [each for each in tree_of_errors if not each.__name__.startswith("_")]
    found.sort(key=lambda each: each.exit_code)
    lines += [f"| `{each.__name__}` | {each.exit_code} | {_one_line(each)} |" for each in found]
    lines += ["", "0 is success; 2 is a wrong command line, by click's convention.", ""]
    return "\n".join(lines)


def commands() -> str:
    """Every command's help, as the terminal shows it."""
    lines = [HEAD, "# Commands", ""]
    for path, command in _commands():
        name = " ".join(("synthtrack", *path))
        context = click.Context(command, info_name=name, terminal_width=100, max_content_width=100)
        lines += [f"## {name}", "", "```text", command.get_help(context), "```", ""]
    return "\n".join(lines)


def configuration() -> str:
    """Every key of a stage 1 config."""
    lines = [HEAD, "# Configuration of `synthtrack generate`", "", CONFIGURATION, ""]
    for title, spec in SPECS.items():
        lines += [f"## {title}", "", str(inspect.getdoc(spec)), ""]
        lines += _header("key", "default", "shapes the data", "meaning")
        lines += [_row(spec, name, _shapes_data(spec, name)) for name in _ordered(spec)]
        lines.append("")
    return "\n".join(lines)


def training() -> str:
    """Every key of a stage 2 config."""
    lines = [HEAD, "# Configuration of `synthtrack train`", "", TRAINING, ""]
    for title, spec in TRAINING_SPECS.items():
        lines += [f"## {title}", "", str(inspect.getdoc(spec)), ""]
        lines += _header("key", "default", "part of the fingerprint", "meaning")
        lines += [_row(spec, name, _shapes_model(spec, name)) for name in spec.model_fields]
        lines.append("")
    return "\n".join(lines)


def perspectives() -> str:
    """Every key of a config of `perspectives`."""
    lines = [HEAD, "# Configuration of `synthtrack perspectives`", "", PERSPECTIVES, ""]
    for title, spec in PERSPECTIVES_SPECS.items():
        lines += [f"## {title}", "", str(inspect.getdoc(spec)), ""]
        lines += _header("key", "default", "shapes the data", "meaning")
        names = sorted(_ordered(spec), key=lambda name: name != "model")
        lines += [_row(spec, name, _shapes_agents(spec, name)) for name in names]
    return "\n".join(lines)


def pools() -> str:
    """Every key of the configuration of benchmarks, and of a pool's config."""
    lines = [HEAD, "# Configuration of `synthtrack pool`", "", POOLS, ""]
    for title, spec in POOL_SPECS.items():
        lines += [f"## {title}", "", str(inspect.getdoc(spec)), ""]
        lines += _header("key", "default", "part of the fingerprint", "meaning")
        lines += [_row(spec, name, _shapes_pool(spec, name)) for name in spec.model_fields]
        lines.append("")
    return "\n".join(lines)


def queries() -> str:
    """Questions in SQL, and what the views behind them mean."""
    return f"{HEAD}\n{questions.page()}"


PAGES: dict[str, Callable[[], str]] = {
    "schema.md": schema, "errors.md": error_tree, "cli.md": commands, "configuration.md": configuration,
    "training.md": training, "perspectives_configuration.md": perspectives,
    "pool-configuration.md": pools, "queries.md": queries,
}  # fmt: skip


def main() -> int:
    """Writes the pages, or with ``--check`` tells which are out of step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = []
    for name, make in PAGES.items():
        path, page = HERE / name, make()
        if check and (not path.exists() or path.read_text(encoding="utf-8") != page):
            stale.append(name)
        elif not check:
            path.write_text(page, encoding="utf-8")
    if stale:
        print(f"Out of step with the code: {', '.join(stale)}. Run `make docs`.", file=sys.stderr)
    return 1 if stale else 0


def _row(spec: type[Spec], name: str, shapes: str) -> str:
    info = spec.model_fields[name]
    mark = marks(info)
    default = "**required**" if info.is_required() else _default(info.get_default(call_default_factory=True))
    deprecated = f" *Deprecated: {mark['deprecated']}.*" if mark.get("deprecated") else ""
    return f"| `{key_of(name, info)}` | {default} | {shapes} | {info.description}{deprecated} |"


def _shapes_data(spec: type[Spec], name: str) -> str:
    through = "through the endpoint" if name == "base_url" else _THROUGH_SOURCE.get(spec, "")
    return through if marks(spec.model_fields[name]).get("operational") else "yes"


def _shapes_agents(spec: type[Spec], name: str) -> str:
    if spec is DataConfigSpec or (spec is PerspectivesConfig and name in {"data_config", "seed"}):
        return "through the inputs"
    return _shapes_data(spec, name)


def _shapes_model(spec: type[Spec], name: str) -> str:
    if marks(spec.model_fields[name]).get("operational"):
        return "through the data" if spec is DataSpec or name == "data" else ""
    if name == "model":
        return "through the model"
    dotted = f"hyperparameters.{name}" if spec is Hyperparameters else name
    # Whether LoRA is asked for makes a difference too: what has an effect with it alone is nothing to zo without it.
    taking = {rank: [method for method in METHODS if _has_effect(dotted, method, rank)] for rank in (None, 8)}
    if taking[None] == list(METHODS):
        return "yes"
    return ", ".join(
        method if method in taking[None] or name == "lora_rank" else f"{method} with lora_rank" for method in taking[8]
    )


def _shapes_pool(spec: type[Spec], name: str) -> str:
    usual = "" if marks(spec.model_fields[name]).get("operational") else "of the pool"
    return _OF_POOLS.get((spec, name), usual)


def _has_effect(dotted: str, method: str, lora_rank: int | None) -> bool:
    given = {
        "model": "m", "task": "Copa", "method": method, "data": {"path": "d"},
        "hyperparameters": {"learning_rate": 1, "lora_rank": lora_rank},
    }  # fmt: skip
    config = effective(TrainingConfig.model_validate(given), num_dev=1, classification=True)
    return dotted not in without_effect(config)


def _default(value: Any) -> str:
    if isinstance(value, Spec):
        return "see below"
    return "" if value in (None, "", (), {}) else f"`{value}`"


def _ordered(spec: type[Spec]) -> list[str]:
    """A model's own keys first, then those it shares with every model."""
    own = [name for name in spec.model_fields if name not in ModelSpec.model_fields]
    return own + [name for name in spec.model_fields if name in ModelSpec.model_fields]


def _commands() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield (), cli
    assert isinstance(cli, LazyGroup)
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        yield (name,), command
        if isinstance(command, click.Group):
            for sub in command.list_commands(context):
                found = command.get_command(context, sub)
                assert found is not None
                yield (name, sub), found


def _tables() -> list[type[SQLModel]]:
    return [each for each in SQLModel.__subclasses__() if each.__module__.startswith(tracker.schema.__name__)]


def _header(*names: str) -> list[str]:
    return [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]


def _one_line(each: type[errors.Error]) -> str:
    return str(inspect.getdoc(each)).replace("\n", " ").replace("``", "`")


def _subclasses(each: type[errors.Error]) -> Iterator[type[errors.Error]]:
    for sub in each.__subclasses__():
        yield sub
        yield from _subclasses(sub)


def _paragraph(module: Any) -> str:
    return str(inspect.getdoc(module)).partition("\n\n")[2] or str(inspect.getdoc(module))


def _dedent(sql: str) -> str:
    return inspect.cleandoc(sql.replace(" AS \n", " AS\n"))


def _tree(tree: str) -> str:
    lines = tree.strip("\n").splitlines()
    end = next(index for index, line in enumerate(lines) if index and line and not line.startswith(" "))
    return "\n".join(
        [
            "```text",
            *(line[4:] for line in lines[:end] if line.strip()),
            "```",
            "",
            " ".join(lines[end:]).replace("``", "`"),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
