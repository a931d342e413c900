"""A stored experiment as a job: what its config says, and what another value in it brings with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.generation.job import Job, Options, judged_by, prepare, stored
from tests.two_stage import N_RECORDS, generated, staged
from tests.workspaces import call, new_root, rows, write_config
from tracker.errors import ConfigError
from tracker.listings import listings
from tracker.paths import Workspace, find_workspace
from tracker.record.catalogue import reading

REACHED: tuple[dict[str, Any], ...] = (
    {},
    {"generation__price": {"input_per_mtok": 1, "output_per_mtok": 2}},
    {"generation__concurrency": 3, "generation__api_key_env": "OTHER_KEY", "validation__timeout": 7},
)
OVERRIDES = (
    (),
    ("validation.model=gpt-4.1",),
    ("validation.validation_prompt=Is {rephrased_premise} {original_premise}?",),
    ("validation.base_url=http://127.0.0.1:9/v1",),
    ("validation.provider=together", "validation.model=meta-llama/Llama-3"),
    ("validation.temperature=0.5", "validation.few_shot_examples=[{original: a, rephrased: b, verdict: same}]"),
)


def made(tmp_path: Path, **changes: Any) -> tuple[Workspace, Path]:
    root = new_root(tmp_path, N_RECORDS)
    path = write_config(root, staged("http://127.0.0.1:1/v1", **{"generation__endpoint": None, **changes}))
    # The endpoint is not there: the experiment is recorded, and that is what counts here.
    call(root, "generate", "copa.yaml", "--no-mlflow", "--set", "generation.max_retries=0", environ={"OTHER_KEY": "k"})
    return find_workspace(str(root)), path


def of_record(workspace: Workspace, overrides: tuple[str, ...] = ()) -> Job:
    with reading(workspace) as reader:
        row = listings.experiment(reader, "Copa/temp07_topp10_gpt4o", workspace)
        return stored(workspace, reader, row, Options(overrides=overrides))


@pytest.mark.parametrize("overrides", OVERRIDES, ids=" ".join)
@pytest.mark.parametrize("changes", REACHED, ids=str)
def test_another_value_means_what_it_would_mean_in_the_file(
    tmp_path: Path, changes: dict[str, Any], overrides: tuple[str, ...]
) -> None:
    workspace, path = made(tmp_path, **changes)
    in_file = prepare(workspace, path, Options(overrides=("generation.max_retries=0", *overrides))).plan.config
    assert of_record(workspace, overrides).plan.config.validation == in_file.validation


def test_what_is_null_stays_null(tmp_path: Path) -> None:
    root = new_root(tmp_path, N_RECORDS)
    nulls = {"generation__seed": None, "validation__top_p": None}
    document = staged(**nulls)
    document["generation"]["top_p"] = document["validation"]["temperature"] = None
    path = write_config(root, document)
    generated(root)
    workspace = find_workspace(str(root))
    with reading(workspace) as reader:
        row = listings.experiment(reader, rows(root, "SELECT fingerprint FROM shared_experiment")[0][0], workspace)
        job = stored(workspace, reader, row, Options())
    assert job.plan.config.generation.top_p is None
    assert job.plan.identity == prepare(workspace, path, Options()).plan.identity


def test_what_shapes_no_data_is_as_the_last_run_had_it(tmp_path: Path) -> None:
    workspace, _ = made(tmp_path)
    call(workspace.root, "generate", "copa.yaml", "--no-mlflow", "--set", "generation.timeout=1",
         "--set", "generation.max_retries=0", "--set", "validation.required_accuracy=0.7")  # fmt: skip
    judge = of_record(workspace).plan.config.validation
    assert judge is not None
    assert (judge.timeout, judge.required_accuracy) == (1, 0.7)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"validation": None, "generation__strategy": "direct_all"}, "no `validation` section"),
        ({"validation__validation_prompt": "Same passage? {original_passage}"}, "uses {original_passage}; fields here"),
    ],
)
def test_the_judge_of_another_config_must_fit_the_records(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    workspace, _ = made(tmp_path)
    document = staged("http://127.0.0.1:1/v1", **{k: v for k, v in changes.items() if k != "validation"})
    if "validation" in changes:
        del document["validation"]
    other = write_config(workspace.root, document, "other.yaml")
    own = of_record(workspace)
    with pytest.raises(ConfigError) as caught:
        judged_by(workspace, own, other, Options())
    assert told in str(caught.value)
    assert "other.yaml" in str(caught.value)


def test_another_configs_data_and_ranges_do_not_matter(tmp_path: Path) -> None:
    workspace, _ = made(tmp_path)
    changes = {"validation__few_shot_range": "500-600", "dataset__input_path": "nowhere.jsonl", "validation__seed": 5}
    other = write_config(workspace.root, staged("http://127.0.0.1:1/v1", **changes), "other.yaml")
    own = of_record(workspace)
    job = judged_by(workspace, own, other, Options())
    mine, judge = own.plan.config.validation, job.plan.config.validation
    assert mine is not None
    assert judge is not None
    assert (judge.seed, judge.few_shot_range, job.path) == (5, mine.few_shot_range, str(other))
    assert job.plan.config.generation == own.plan.config.generation
