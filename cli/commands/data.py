"""`synthtrack data`: public data sets as input for perspectives."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import click

from cli.options import as_json, overwrite, workspace
from cli.output_file import write_output
from cli.render import counted, note, show_either
from pipeline.sources.fetch import ORIGINS, SPLIT, SUFFIXES, fetch, filename
from tracker.errors import Conflict, StorageError
from tracker.fingerprint import Json, bytes_digest
from tracker.paths import Workspace, expanded


@click.group()
def data() -> None:
    """Fetch public data sets as input for perspectives."""


@data.command("fetch")
@click.argument("name", type=click.Choice(list(ORIGINS)))
@click.option("--sample", "size", type=click.IntRange(min=1), default=500, show_default=True, help="So many records.")
@click.option("--seed", type=click.IntRange(min=0), default=2025, show_default=True, help="Which ones are drawn.")
@click.option("--split", default=SPLIT, show_default=True, metavar="NAME", help="Of which split.")
@click.option("--from", "directory", metavar="DIR", help="A copy on the disk, read instead of the hub.")
@click.option(
    "--output", metavar="FILE", help="FILE.json or FILE.jsonl; default: data/wmt14_de_en_500.json and the like."
)
@overwrite
@as_json
@workspace
def fetch_data(
    place: Workspace,
    *,
    name: str,
    size: int,
    seed: int,
    split: str,
    directory: str | None,
    output: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Draw a sample of a data set of the Hugging Face hub, in the order of its records.

    wmt14-de-en: German sentences with their English translations. cnn-dailymail: news articles with their highlights.
    The same seed and data give the same file. DIR holds Parquet or JSON files, or what `save_to_disk` of `datasets`
    wrote.
    """
    path = expanded(output, "--output") if output is not None else place.data_dir / filename(name, size, split)
    if path.suffix not in SUFFIXES:
        raise click.BadParameter(f"{path.name} must end in {' or '.join(SUFFIXES)}.", param_hint="--output")
    if directory is None:
        note(f"Reading {ORIGINS[name].hub} ({ORIGINS[name].config}, {split}) from the hub ...")
    found = fetch(
        name, size=size, seed=seed, split=split, directory=None if directory is None else place.find(directory)
    )
    content = found.lines if path.suffix == ".jsonl" else found.content
    written = _write(path, content, overwrite=overwrite)
    drawn = {
        "dataset": name, "split": split, "seed": seed, "path": place.relative(path), "written": written,
        "n_records": len(found.pairs), "n_available": found.n_available, "n_left_out": found.n_left_out,
        "sha256": bytes_digest([content]), "next_command": _following(place, name, path, size),
    }  # fmt: skip
    show_either(drawn, lambda: _told(drawn), as_json=as_json)


def _told(drawn: dict[str, Json]) -> Iterator[str]:
    records = counted(drawn["n_records"], "record")
    if drawn["written"]:
        yield f"✅ {records} of {drawn['n_available']:,} written: {drawn['path']}"
    else:
        yield f"⚡ There already, with the same {records}: {drawn['path']}"
    if drawn["n_left_out"]:
        yield f"   {counted(drawn['n_left_out'], 'record')} without text left out"
    yield f"   SHA-256: {drawn['sha256']}"
    yield f"💾 Next: {drawn['next_command']}"


def _write(path: Path, content: bytes, *, overwrite: bool) -> bool:
    """Whether ``content`` was not in ``path`` yet."""
    try:
        if path.is_file() and path.read_bytes() == content:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}.") from error
    try:
        write_output(path, content, overwrite=overwrite)
    except Conflict as error:
        raise Conflict(f"{path} is there already, with other content.", hint=error.hint) from error
    return True


def _following(place: Workspace, name: str, path: Path, size: int) -> str:
    """The ready config with these inputs or, where it is not there, what makes it."""
    config = place.configs_dir / "perspectives" / ORIGINS[name].perspectives
    if not config.is_file():
        return "synthtrack init"
    settings = {"input_data_path": place.relative(path), "sample_size": size}
    overrides = [word for key, value in settings.items() for word in ("--set", f"data_config.{key}={value}")]
    return shlex.join(["synthtrack", "perspectives", place.relative(config), *overrides])
