"""How one training run, or one sweep, looks in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from cli.render import RULE, counted, harmless, moment, table
from cli.text.result_words import (
    accuracy,
    baselines,
    chance,
    duration,
    figure,
    known,
    name_of,
    number,
    percent,
    points,
    progress,
    short_accuracy,
    status,
    told,
)
from tracker.fingerprint import Json
from tracker.record.catalogue import Row

_CURVE_LINES = 8
_ERROR_LINES = 10


def shown(run: Row, n_wrong: int) -> Iterator[str]:
    """Everything about one run, as ``results.run`` gives it, with its ``files``, ``seeds`` and ``next_command``.

    Of its wrong answers ``n_wrong`` are shown.
    """
    yield from (RULE, f"Training run: {harmless(name_of(run))}")
    yield f"Run: {run['uuid']}, training fingerprint {run['fingerprint']}"
    yield from (f"Status: {status(run)}", *_times(run))
    yield from (f"Purpose: {run['purpose']}", *([f"Description: {run['description']}"] if run["description"] else []))
    yield f"Path: {run['directory']}"
    yield f"Sweep: {run['sweep'][:8]} ({counted(run['n_points'], 'point')}, {run['config_path'] or 'no config file'})"
    yield f"MLflow run: {run['mlflow_run_id'] or 'not logged'}"
    if run["next_command"]:
        yield f"Next: {run['next_command']}"
    yield RULE
    if run["error"]:
        yield from ("", "❌ Error", *(f"   {harmless(line)}" for line in run["error"].splitlines()[-_ERROR_LINES:]))
    yield from ("", "📊 Results", *(f"   {line}" for line in _results(run)))
    if run["curve"]:
        yield from ("", "📈 Curve", _curve(run["curve"], run["best_step"]))
    if run["predictions"] is not None:
        yield from ("", "🔍 Predictions", *_predictions(run, n_wrong))
    yield from ("", f"📦 {counted(len(run['data_sets']), 'data set')}")
    for each in run["data_sets"]:
        yield from (f"   {harmless(line)}" for line in _data(each))
    yield from ("", "🔧 Settings")
    given = ((name, value) for name, value in run["settings"].items() if value not in (None, "", [], {}))
    yield from (f"   {name}: {harmless(number(value))}" for name, value in given)
    if len(run["attempts"]) > 1:
        yield from ("", f"⚡ {counted(len(run['attempts']), 'attempt')} at this point", _attempts(run["attempts"]))
    yield from ("", "📁 Files", f"   {run['directory']}", *(f"      {harmless(_file(each))}" for each in run["files"]))


def _times(run: Row) -> Iterator[str]:
    yield f"Started: {moment(run['started_at'])}, finished: {moment(run['finished_at'])}"
    if run["import_run_id"]:
        yield f"Duration: {duration(run['duration_s'])}; imported, not trained here"
        return
    where = f"{run['device'] or 'no device yet'}, {counted(run['threads'] or 1, 'thread')}"
    resumed = f", resumed {counted(run['n_resumed'], 'time')}" if run["n_resumed"] else ""
    yield f"Duration: {duration(run['duration_s'])} on {where}{resumed}"


def _results(run: Row) -> Iterator[str]:
    if run["accuracy"] is None:
        yield f"None{'' if run['import_run_id'] else ' yet'}: {progress(run)}"
        return
    yield f"Accuracy: {accuracy(run)}"
    yield f"Baselines: {baselines(run)}"
    yield from _seeds(run["seeds"])
    if run["macro_f1"] is not None:
        yield f"Macro-F1: {run['macro_f1']:.3f}"
    yield f"Evaluation loss: {figure(run['eval_loss'])}"
    best = f"at step {known(run['best_step'])}, of {known(run['n_dev'])} records"
    yield f"Dev: loss {figure(run['dev_loss'])}, accuracy {percent(run['dev_accuracy'])} {best}"
    tokens = "" if run["tokens_per_s"] is None else f", {run['tokens_per_s']:,.0f} tokens/s"
    yield f"Speed: {figure(run['step_time_s'])} s a step{tokens}"
    if run["peak_memory_bytes"] is not None:
        yield f"Peak memory: {run['peak_memory_bytes'] / 2**30:.2f} GiB"


def _seeds(pool: Mapping[str, Json]) -> Iterator[str]:
    if len(pool["runs"]) > 1:
        each = ", ".join(f"{told(run['seed'])}: {percent(run['accuracy'])}" for run in pool["runs"])
        spread = f"sd {points(pool['sd_over_seeds'])} points"
        yield f"All its seeds: mean {percent(pool['mean_accuracy'])}, {spread} ({each})"


def _curve(curve: Sequence[Row], best_step: int | None) -> str:
    rows = [
        [f"{row['step']:,}{' *' if row['step'] == best_step else ''}", figure(row["train_loss"]),
         figure(row["dev_loss"]), percent(row["dev_accuracy"])]
        for row in _thinned(curve, best_step)
    ]  # fmt: skip
    return table(["Step (* best)", "Train loss", "Dev loss", "Dev accuracy"], rows)


def _thinned(curve: Sequence[Row], best_step: int | None) -> list[Row]:
    """A few points of the curve, its ends and the best among them."""
    last = len(curve) - 1
    kept = {round(at * last / (_CURVE_LINES - 1)) for at in range(_CURVE_LINES)}
    return [row for at, row in enumerate(curve) if at in kept or row["step"] == best_step]


def _predictions(run: Row, n_wrong: int) -> Iterator[str]:
    found, classes = run["predictions"], run["classes"]
    yield f"   {found['n_correct']:,} of {found['n']:,} right"
    if found["gain"] is not None:
        gain = found["gain"]
        yield (
            f"   Against the untrained model: {gain['learnt']:,} learnt, {gain['lost']:,} lost; "
            f"{chance(gain['difference'], gain['p'])}"
        )
    if found["confusion"] is not None:
        rows = [[name, *map(str, row)] for name, row in zip(classes, found["confusion"], strict=True)]
        yield from ("", table(["Right answer", *(f"said {name}" for name in classes)], rows))
    wrong = found["wrong"][:n_wrong]
    if wrong:
        rows = [[row["position"] + 1, row["label"], row["predicted"], f"{row['margin']:.3f}"] for row in wrong]
        yield from ("", f"   Wrong with the most confidence ({len(wrong)} of {len(found['wrong']):,})")
        yield table(["Line", "Right answer", "Answered", "Right one behind by"], rows)


def _data(each: Row) -> Iterator[str]:
    yield each["path"]
    made = f"{each['experiment']}, fingerprint {each['fingerprint']}" if each["experiment"] else "no experiment"
    batch = f", through {each['batch']}" if each["batch"] else ""
    yield f"   {made}{batch}"
    counts = f"{known(each['n_train'])} of {known(each['n_records'])} records trained on"
    yield f"   {counts}, {'SHA-256 ' + each['train_digest'][:12] if each['train_digest'] else 'not in the record'}"
    if each["warning"]:
        yield f"   ⚠️ {each['warning']}"


def _attempts(attempts: Sequence[Row]) -> str:
    rows = [[row["attempt"], row["uuid"][:8], moment(row["created_at"]), row["status"], percent(row["accuracy"])]
            for row in attempts]  # fmt: skip
    return table(["#", "Run", "Created", "Status", "Accuracy"], rows)


def _file(each: Row) -> str:
    return each["name"] if each["n_bytes"] is None else f"{each['name']} ({each['n_bytes']:,} bytes)"


def shown_sweep(sweep: Row) -> Iterator[str]:
    """A sweep with the table of its ``results``, and ``points`` where several seeds were tried."""
    yield from (RULE, f"Sweep: {sweep['uuid']}", f"Status: {sweep['status']}", f"Purpose: {sweep['purpose']}")
    yield f"Model: {harmless(sweep['model'])}, task: {sweep['task']}, method: {sweep['method']}"
    yield f"Config: {sweep['config_path'] or 'no file'}, varied: {', '.join(sweep['varied']) or 'nothing'}"
    yield from (f"Started: {moment(sweep['started_at'])}, finished: {moment(sweep['finished_at'])}", RULE, "")
    varied = sweep["varied"] or ["seed"]
    yield table([*varied, "Status", "Accuracy (95% interval)", "Run", "Directory"],
                [[*_values(row["settings"], varied), *_reached(row)] for row in sweep["results"]])  # fmt: skip
    if sweep["points"]:
        names = [name for name in varied if name != "seed"]
        rows = [
            [*_values(each["settings"], names), len(each["runs"]), percent(each["mean_accuracy"]),
             points(each["sd_over_seeds"])]
            for each in sweep["points"]
        ]  # fmt: skip
        yield from ("", table([*names, "Seeds", "Mean accuracy", "sd (points)"], rows))
    best = next((row for row in sweep["results"] if row["accuracy"] is not None), None)
    if best is not None:
        yield from ("", f"Baselines: {baselines(best)}")


def _values(settings: Mapping[str, Json], names: Sequence[str]) -> list[str]:
    return [number(settings.get(f"hyperparameters.{name}")) for name in names]


def _reached(row: Row) -> list[str]:
    return [status(row), short_accuracy(row), row["uuid"][:8], harmless("/".join(row["directory"].split("/")[-2:]))]
