"""`synthtrack template`: what people validated, as a config for parameter studies."""

from __future__ import annotations

from pathlib import Path

import click

from cli.options import as_json, overwrite, workspace
from cli.output_file import write_output
from cli.render import counted, show, show_json
from cli.text.next_command import next_command
from tracker.errors import ConfigError, Problem, StorageError
from tracker.listings import listings
from tracker.paths import Workspace, expanded, name_problem
from tracker.record.catalogue import reading


@click.group()
def template() -> None:
    """Save validated prompts and examples as a config for parameter studies."""


@template.command("save")
@click.argument("experiment")
@click.argument("name")
@click.option("--output", metavar="PATH", help="Where to; default: configs/stage1/NAME.yaml.")
@overwrite
@as_json
@workspace
def save_template(
    place: Workspace, *, experiment: str, name: str, output: str | None, overwrite: bool, as_json: bool
) -> None:
    """Save the prompts and few-shot examples that people validated in EXPERIMENT as the direct_all config NAME.

    Its judge must have passed. For records that no person saw the config asks what the experiment asked. Reviewed and
    annotated samples are rephrased and judged like all others: people's decisions are not in it.
    """
    from pipeline.generation import template as templates
    from pipeline.two_stage import load

    path = _path(place, name, output)
    shown = place.relative(path)
    with reading(place) as reader:
        state = load(reader, listings.experiment(reader, experiment, place))
        runs = listings.generation_runs(reader, state.experiment["id"])
    templates.check(state, next_command(state, runs))
    text = templates.text(state, name, shown)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{path.parent} cannot be made: {error.strerror}.") from error
    write_output(path, text, overwrite=overwrite)
    n_rephrase, n_judge = len(state.rephrase_examples), len(state.judge_examples)
    if as_json:
        show_json(
            {
                "path": shown,
                "experiment": state.reference,
                "fingerprint": state.experiment["fingerprint"],
                "n_rephrase_examples": n_rephrase,
                "n_judge_examples": n_judge,
                "learned_samples": templates.learned(state),
                "next_command": templates.study(shown),
            }
        )
        return
    show(f"✅ Template: {shown}")
    show(f"   {templates.description(state)}")
    show(f"   {counted(n_rephrase, 'example')} for rephrasing, {n_judge:,} for the judge")
    first, *others = templates.caveats(state)
    show("\n".join([f"⚠️ {first}", *(f"   {line}" for line in others)]))
    show(f"💾 Next: {templates.study(shown)}")


def _path(place: Workspace, name: str, output: str | None) -> Path:
    problem = name_problem(name)
    if problem is not None:
        raise ConfigError("The template cannot be named so.", [Problem("NAME", problem)])
    if output is not None:
        return expanded(output, "--output")
    return place.configs_dir / "stage1" / f"{name}.yaml"
