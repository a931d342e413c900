"""How experiments look in a terminal: a listing, and everything about one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from cli.render import RULE, THIN_RULE, counted, harmless, moment, table, usd
from cli.text.listing import by_dataset, left_out, reuse
from tracker.fingerprint import Json, canonical_json
from tracker.listings.compare import difference, is_long, short
from tracker.listings.listings import Listing
from tracker.paths import SHARED
from tracker.record.catalogue import Row

_GENERATION = (
    ("model", "Model"),
    ("temperature", "Temperature"),
    ("top_p", "Top_p"),
    ("max_tokens", "Max tokens"),
)
_VALIDATION = (("validation_model", "Model"), ("validation_temperature", "Temperature"))
_WITHOUT_A_VERDICT = {"accepted": "rephrased", "rejected": "kept as it was"}
_CELL = 44
_SAID = 60
_DIFF_LINES = 12


def listed(found: Listing, *, verbose: bool) -> Iterator[str]:
    """The listing of `experiment list`."""
    yield from (RULE, f"Physical experiment data in {SHARED}/", f"Experiments: {found.total:,}", RULE)
    for dataset, how_many, experiments in by_dataset(found):
        yield from ("", f"📊 {dataset} ({how_many})", THIN_RULE)
        for row in experiments:
            yield from ("", f"  📦 {row['name']}")
            yield from (f"     {line}".rstrip() for line in _listed(row, verbose=verbose))
    if not found.rows:
        yield from ("", "💾 `synthtrack generate CONFIG` makes the first one.")
    if found.left_out:
        yield from ("", *left_out(found, "experiment"))


def _listed(row: Row, *, verbose: bool) -> Iterator[str]:
    yield f"Physical path: {row['directory'] or SHARED + '/' + row['reference']}"
    yield f"Parameter fingerprint: {row['fingerprint']}"
    if row["legacy_fingerprint"]:
        yield f"Older fingerprint: {row['legacy_fingerprint']}"
    yield f"Created: {moment(row['created_at'])}"
    yield f"Original batch: {row['original_batch']}"
    if row["status"] != "complete":
        yield f"⚠️ Status: {row['status']}"
    if not verbose:
        return
    yield from ("", "Generation config:", *_titled(row, _GENERATION))
    if row["validation_model"] is not None:
        yield from ("", "Validation config:", *_titled(row, _VALIDATION))
    rate = "" if row["acceptance_rate"] is None else f" ({row['acceptance_rate']:.1%} of what was judged)"
    judged = f"{row['n_accepted']:,} accepted{rate}" if row["validation_model"] else "not judged"
    yield from ("", f"Records: {row['n_records']:,}, {rephrased(row) or judged}; cost: {usd(row['cost_usd'])}")
    yield from ("", f"Experiment purpose: {row['purpose']}")
    if row["description"]:
        yield f"Experiment description: {row['description']}"


def _titled(row: Row, columns: tuple[tuple[str, str], ...]) -> Iterator[str]:
    yield from (f"  {title}: {row[column]}" for column, title in columns if row[column] is not None)


def shown(row: Row) -> Iterator[str]:
    """Everything about one experiment, with the ``batches``, ``runs``, ``files`` and ``samples`` that belong to it."""
    yield from (RULE, f"Experiment: {row['reference']}", f"Parameter fingerprint: {row['fingerprint']}")
    if row["legacy_fingerprint"]:
        yield f"Older fingerprint: {row['legacy_fingerprint']}"
    yield from (*_status(row), RULE)
    yield from ("", "📊 Results", *(f"   {line}" for line in _results(row)))
    yield from ("", "🔧 Settings", *(f"   {line}".rstrip() for line in setting_lines(_given(row["settings"]))))
    yield from ("", f"📦 {counted(len(row['batches']), 'batch', 'batches').capitalize()}")
    for held in row["batches"]:
        yield from (
            f"   {held['batch']}",
            f"      {reuse(reused=held['reused'], original_batch=row['original_batch'])}",
        )
        yield f"      {held['path']}"
    yield from ("", "📁 Files" if row["completed_at"] else "📁 Files, once it is complete", f"   {row['shared_path']}")
    yield from (f"      {_file(row, each)}" for each in row["files"])
    if row["publications"]:
        yield from ("", f"📁 {counted(len(row['publications']), 'publication')}")
    for each in row["publications"]:
        told = f"{each['directory']} ({each['mode']}, {moment(each['published_at'])}): {each['state']}"
        yield f"   {harmless(told)}"
    if row["runs"]:
        yield from ("", f"⚡ {counted(len(row['runs']), 'generation run')}", _runs(row["runs"]))
    if row.get("judge_tests"):
        yield from ("", f"⚖️ {counted(len(row['judge_tests']), 'judge test')}", judge_tests(row["judge_tests"]))
    if row["samples"]:
        yield from ("", f"📊 First {counted(len(row['samples']), 'record')}", _samples(row["samples"]))


def _status(row: Row) -> Iterator[str]:
    yield f"Status: {row['status']}" if row["status"] == "complete" else f"⚠️ Status: {row['status']}"
    if row["lease_pid"] is not None:
        yield f"Being made by PID {row['lease_pid']} on {row['lease_host']} since {moment(row['lease_since'])}"
    elif row["next_command"] is not None:
        yield f"Next: {row['next_command']}"
    yield from row.get("progress", ())
    yield f"Purpose: {row['purpose']}"
    if row["description"]:
        yield f"Description: {row['description']}"
    yield f"Created: {moment(row['created_at'])}, completed: {moment(row['completed_at'])}"
    yield f"Source: {row['source_origin']} (digest {row['source_digest'][:12]})"


def _results(row: Row) -> Iterator[str]:
    yield f"Records: {row['n_records']:,}"
    unclear = f", {row['n_unclear']:,} of them unclear" if row["n_unclear"] else ""
    if imported := rephrased(row):
        yield f"Imported: {imported}; what was judged is not known"
    else:
        yield f"Accepted: {row['n_accepted']:,} ({rate(row)})"
        yield f"Rejected: {row['n_rejected']:,} (original kept{unclear})"
    yield f"Failed: {row['n_failed']:,}"
    yield f"Tokens: {row['prompt_tokens']:,} prompt, {row['completion_tokens']:,} completion"
    yield f"Cost: {usd(row['cost_usd'])}"
    if row["cost_per_accepted_usd"] is not None:
        yield f"Cost per accepted record: ${row['cost_per_accepted_usd']:.6f}"


def rate(row: Row) -> str:
    """The acceptance rate, in per cent of the records that were judged or answered."""
    if row["acceptance_rate"] is None:
        return "not known" if rephrased(row) else "no rate yet"
    return f"{row['acceptance_rate']:.1%}"


def rephrased(row: Row) -> str:
    """What became of the records where nobody knows what was judged, as of imported data; else nothing."""
    if row["acceptance_rate"] is not None or not row["n_accepted"] + row["n_rejected"]:
        return ""
    return f"{row['n_accepted']:,} rephrased, {row['n_rejected']:,} kept as they were"


def setting_lines(settings: Iterable[tuple[str, Json]]) -> Iterator[str]:
    """Settings with their values; prompts whole, line by line as they are written."""
    for name, value in settings:
        if name.endswith("_prompt") and isinstance(value, str) and is_long(value):
            yield f"{name}:"
            yield from (f"  │ {line}".rstrip() for line in harmless(value).strip("\n").split("\n"))
        else:
            yield f"{name}: {short(value)}"


def _given(settings: Row) -> Iterator[tuple[str, Json]]:
    yield from ((name, value) for name, value in settings.items() if value not in (None, "", [], {}))


def _file(row: Row, each: Row) -> str:
    if each["split"] == "train":
        return f"{each['filename']} (synthetic, {counted(row['record_limit'] or each['n_records'], 'record')})"
    return f"{each['filename']} (as in the source, {counted(each['n_records'], 'record')})"


def judge_tests(rows: list[Row], settings: Sequence[str] = ()) -> str:
    """The tests of judges, oldest first, with those of the ``settings`` in which they differ."""
    shown = [name for name in settings if len({canonical_json(row["settings"].get(name)) for row in rows}) > 1]
    columns = [("#", "number"), ("When", "when"), ("Model", "model")]
    columns += [("Temp", "temperature")] if _differ(rows, "temperature") else []
    columns += [(name, name) for name in shown]
    columns += [("Prompt", "prompt")] if _differ(rows, "prompt_number") else []
    columns += [("Accuracy", "accuracy"), ("Right", "right"), ("Required", "required"), ("Passed", "passed")]
    columns += [("Judge", "judge_key")] if _differ(rows, "judge_key") else []
    columns += [("Test set", "test_set_key")] if _differ(rows, "test_set_key") else []
    cells = [_test_cells(row) | {name: short(row["settings"].get(name)) for name in shown} for row in rows]
    return table([title for title, _ in columns], [[each[name] for _, name in columns] for each in cells])


def _differ(rows: list[Row], name: str) -> bool:
    return len({row[name] for row in rows}) > 1


def _test_cells(row: Row) -> Row:
    return {
        "number": row["number"], "when": moment(row["created_at"]), "model": row["model"],
        "temperature": short(row["temperature"]), "prompt": f"prompt {row['prompt_number']}",
        "accuracy": f"{row['accuracy']:.1%}", "right": f"{row['n_correct']} of {row['n_tested']}",
        "required": f"{row['required_accuracy']:.1%}", "passed": "yes" if row["passed"] else "no",
        "judge_key": row["judge_key"][:8], "test_set_key": row["test_set_key"][:8],
    }  # fmt: skip


def prompt_differences(rows: list[Row]) -> Iterator[str]:
    """What each later prompt of the tests has otherwise than the first, as the beginning of a unified diff."""
    prompts = {row["prompt_number"]: row["settings"]["validation_prompt"] for row in rows}
    for number, prompt in list(prompts.items())[1:]:
        titles = ("prompt 1", f"prompt {number}")
        lines = difference(prompts[1], prompt, titles) or [f"{titles[1]} differs from {titles[0]} in blanks only"]
        yield from ("", *(harmless(line) for line in lines[:_DIFF_LINES]))
        if len(lines) > _DIFF_LINES:
            yield f"... {counted(len(lines) - _DIFF_LINES, 'more line')}; --json has every prompt"


def _runs(runs: list[Row]) -> str:
    step = ("Step",) if any(run["step"] for run in runs) else ()
    headers = ("Started", "Batch", "Outcome", *step, "Status", "Calls", "Cost", "MLflow run")
    return table(
        headers,
        [
            (moment(run["started_at"]), run["batch"], run["outcome"], *((run["step"] or "-",) if step else ()),
             run["status"], run["n_calls"], usd(run["cost_usd"]) if run["n_calls"] else "-",
             run["mlflow_run_id"] or "not logged")
            for run in runs
        ],
    )  # fmt: skip


def _samples(samples: list[Row]) -> str:
    rows = [
        (each["position"] + 1, each["original"], each["rephrased"] or each["error"] or "-", _verdict(each))
        for each in samples
    ]
    return table(("#", "Original", "Rephrased", "Result"), rows, widths=[None, _CELL, _CELL, None])


def _verdict(sample: Row) -> str:
    if sample["status"] == "undecided" and sample["decision"]:
        return f"undecided (people: {sample['decision'].replace('_', ' ')}; not used yet)"
    if not sample["verdict"] and sample["status"] in _WITHOUT_A_VERDICT:
        return _WITHOUT_A_VERDICT[sample["status"]]
    verdict = f" ({sample['verdict'].replace('_', ' ')})" if sample["verdict"] else ""
    if sample.get("judge_answer"):
        said = " ".join(harmless(sample["judge_answer"]).split())
        verdict = f" (unclear, the judge: {said[:_SAID]}{'…' if len(said) > _SAID else ''})"
    by = " by a person" if sample.get("decided_by") == "person" else ""
    return f"{sample['status']}{by}{verdict}"
