"""`synthtrack pool validate`: whether a model finds hard what is scored as hard."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from cli import options, render
from cli.progress import command_line, logged_to_mlflow, progress_bar
from tracker.errors import PartialResult
from tracker.listings import pool_listings
from tracker.paths import Workspace
from tracker.record.catalogue import reading

if TYPE_CHECKING:
    from pipeline.pools.validate import Validation
    from pipeline.specs import ModelSpec
    from tracker.record.catalogue import Row

_AS_THEY_ARE = ("model", "provider", "base_url", "endpoint", "api_key_env", "concurrency", "timeout", "max_retries")
NOT_SENT = "none"


def temperature_of(_: click.Context, __: click.Parameter, given: str | None) -> float | str | None:
    """The callback of ``--temperature``: a number, or ``none`` as it is. Raises BadParameter."""
    if given is None or given == NOT_SENT:
        return given
    try:
        return float(given)
    except ValueError:
        raise click.BadParameter(f"{given!r} is neither a number nor `{NOT_SENT}`.") from None


@click.command("validate")
@click.argument("ref")
@click.option("--model", required=True, metavar="NAME", help="The model to ask, as its provider names it.")
@click.option(
    "--samples", type=click.IntRange(min=1), default=20, show_default=True, help="Tasks of each bin of each benchmark."
)
@click.option("--budget", type=click.FloatRange(min=0), metavar="USD", help="Never let this validation cost more.")
@click.option("--seed", type=int, default=0, show_default=True, help="Draws the sample.")
@click.option("--run-code", is_flag=True, help="Grade HumanEval by running what the model writes, confined by Linux.")
@click.option("--provider", metavar="NAME", help="openai, together or offline; default: by the model's name.")
@click.option("--base-url", metavar="URL", help="The address of the service.")
@click.option("--endpoint", metavar="NAME", help="A name for the service behind --base-url; its address may change.")
@click.option("--api-key-env", metavar="NAME", help="The variable that holds the API key.")
@click.option("--temperature", metavar="T", callback=temperature_of, help="Default: 0; `none`: not sent.")
@click.option("--max-tokens", type=int, metavar="N", help="The longest answer; default: 2048.")
@click.option("--concurrency", type=int, metavar="N", help="Most requests in flight; default: 50.")
@click.option("--timeout", type=float, metavar="S", help="Seconds for one whole request; default: 60.")
@click.option("--max-retries", type=int, metavar="N", help="Tries after the first; default: 10.")
@click.option("--price-input", type=float, metavar="USD", help="For a million prompt tokens, where no price is known.")
@click.option("--price-output", type=float, metavar="USD", help="For a million completion tokens, likewise.")
@click.option("--wait", is_flag=True, help="Where another process asks the same now, wait for its answers.")
@click.option("--dry-run", is_flag=True, help="Show what would be asked and what it would cost; no call is made.")
@options.no_mlflow
@options.as_json
@options.workspace
def validate_pool(
    place: Workspace, /, *, ref: str, dry_run: bool, no_mlflow: bool, as_json: bool, wait: bool, **chosen: Any
) -> None:
    """Ask a model a sample of a pool's easy and hard tasks, and grade its answers.

    REF as for `pool show`. What was answered before is not asked again, and a larger sample asks about the rest alone.
    Where the budget stops it, or tasks fail, the report is of what was graded until then, and the same command goes on.
    """
    from cli.text.pool_validation_text import as_json as shown
    from cli.text.pool_validation_text import validated

    model = _model(place, chosen)
    with reading(place) as reader:
        row = pool_listings.pool(reader, place, ref)
    if dry_run:
        _dry_run(place, row, model, chosen, as_json=as_json)
        return
    with logged_to_mlflow(place, leave=no_mlflow, waits=True):
        found = _validated(place, row, model, chosen, wait=wait)
        render.show_either(shown(row["name"], found), lambda: validated(row["name"], found), as_json=as_json)
    if found.stopped is not None:
        raise found.stopped
    if found.status == "partial":
        raise PartialResult(
            f"{row['name']}: {found.row['n_failed']:,} of {found.row['n_tasks']:,} tasks have no answer "
            f"(the first: {found.first_failure}).",
            hint="Run the same command to try them again.",
        )


def _validated(place: Workspace, row: Row, model: ModelSpec, chosen: dict[str, Any], *, wait: bool) -> Validation:
    from pipeline.pools.validate import validate

    with progress_bar(row["name"], unit="task") as display:
        return validate(
            place,
            row,
            model,
            samples=chosen["samples"],
            budget=chosen["budget"],
            run_code=chosen["run_code"],
            seed=chosen["seed"],
            display=display,
            tell=render.note if wait else None,
            command=command_line(),
        )


def _dry_run(place: Workspace, row: Row, model: ModelSpec, chosen: dict[str, Any], *, as_json: bool) -> None:
    from cli.text.pool_validation_text import previewed
    from pipeline.pools.validation_plan import planned
    from pipeline.pools.validation_preview import preview

    plan = planned(
        place, row, model, chosen["samples"], chosen["seed"], code=chosen["run_code"], budget=chosen["budget"]
    )
    each = preview(place, plan)
    render.show_either({"pool": row["name"], **asdict(each)}, lambda: previewed(row["name"], each), as_json=as_json)


def _model(place: Workspace, chosen: dict[str, Any]) -> ModelSpec:
    """The model that the options name, as it is reached here. Raises ConfigError and UsageError."""
    from pipeline.pools.validation_plan import MAX_TOKENS, TEMPERATURE
    from pipeline.providers import resolve_model
    from pipeline.specs import ModelSpec
    from tracker.configs import Document, validate

    given = {name: chosen[name] for name in _AS_THEY_ARE if chosen[name] is not None}
    warmth, longest = chosen["temperature"], chosen["max_tokens"]
    given["temperature"] = TEMPERATURE if warmth is None else None if warmth == NOT_SENT else warmth
    given["max_tokens"] = MAX_TOKENS if longest is None else longest
    prices = {"input_per_mtok": chosen["price_input"], "output_per_mtok": chosen["price_output"]}
    if any(price is not None for price in prices.values()):
        if None in prices.values():
            raise click.UsageError("--price-input and --price-output are given together.")
        given["price"] = prices
    found = resolve_model(validate(ModelSpec, Document(given, "The command line")), place.environ)
    assert isinstance(found, ModelSpec)
    return found
