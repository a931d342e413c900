"""A training config: the grid that its lists span, the defaults that depend on others, and what has no effect."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.training.specs import DataSpec, Grid, Hyperparameters, TrainingConfig, effective, grid, without_effect
from tracker import configs
from tracker.errors import ConfigError
from tracker.spec import marks, settings

CONFIG = """
experiment: {purpose: tuning}
model: scratch:llama-tiny
task: Copa
method: zo
data: {path: Data/original/Copa}
hyperparameters:
"""


def grid_of(hyperparameters: str, *assignments: str) -> Grid:
    indented = "".join(f"  {line}\n" for line in hyperparameters.splitlines())
    return grid(configs.override(configs.parse(CONFIG + indented, "c.yaml"), assignments))


def values(found: Grid, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(getattr(point.hyperparameters, name) for name in names) for point in found.points]


def test_the_last_list_varies_fastest() -> None:
    found = grid_of("learning_rate: [1e-6, 5e-7]\nbatch_size: 8\nseed: [0, 1, 2]")
    assert values(found, "learning_rate", "seed") == [
        (1e-6, 0), (1e-6, 1), (1e-6, 2), (5e-7, 0), (5e-7, 1), (5e-7, 2),
    ]  # fmt: skip
    assert found.varied == ("learning_rate", "seed")
    assert {point.hyperparameters.batch_size for point in found.points} == {8}


@pytest.mark.parametrize("text", ["1e-6", "1.0e-6", "0.000001", '"1e-6"', "1E-6", "[1e-6]", "[1e-6, 0.000001]"])
def test_a_rate_is_a_number_however_it_is_written(text: str) -> None:
    found = grid_of(f"learning_rate: {text}")
    assert (values(found, "learning_rate"), found.varied) == ([(1e-6,)], ())


def test_whole_numbers_may_have_an_exponent() -> None:
    found = grid_of("learning_rate: 1e-3\nsteps: 2e4\nbatch_size: [16, 1.6e1]")
    assert values(found, "steps", "batch_size") == [(20_000, 16)]


def test_a_list_of_one_value_is_that_value() -> None:
    assert grid_of("learning_rate: [1e-3]\nseed: 4") == grid_of("learning_rate: 1e-3\nseed: [4]")


def test_the_command_line_can_make_a_grid() -> None:
    found = grid_of("learning_rate: 1e-3", "hyperparameters.seed=[3, 4]", "hyperparameters.learning_rate=2e-3")
    assert values(found, "learning_rate", "seed") == [(2e-3, 3), (2e-3, 4)]


CHOICES: dict[str, list[Any]] = {
    "learning_rate": [1e-7, 5e-7, 1e-6, 1e-3, 1.0],
    "batch_size": [1, 2, 8, 16],
    "steps": [1, 10, 1000],
    "seed": [0, 1, 2**32 - 1],
    "zo_eps": [1e-4, 1e-3],
    "lora_rank": [None, 1, 8],
    "warmup": [0.0, 0.1, 30.0],
    "lr_schedule": [None, "constant", "cosine"],
    "eval_steps": [None, 5],
}


@given(
    st.fixed_dictionaries(
        {"learning_rate": st.lists(st.sampled_from(CHOICES["learning_rate"]), min_size=1, max_size=3)},
        optional={
            name: st.sampled_from(known) | st.lists(st.sampled_from(known), min_size=1, max_size=3)
            for name, known in CHOICES.items()
            if name != "learning_rate"
        },
    )
)
def test_lists_span_exactly_their_product(chosen: dict[str, Any]) -> None:
    document = configs.Document({**configs.parse(f"{CONFIG} {{}}", "f").data, "hyperparameters": chosen}, "c.yaml")
    found = grid(document)
    lists = {name: value if isinstance(value, list) else [value] for name, value in chosen.items()}
    wanted = list(dict.fromkeys(itertools.product(*lists.values())))
    assert values(found, *lists) == wanted
    assert set(found.varied) == {name for name, known in lists.items() if len(set(known)) > 1}
    defaults = Hyperparameters(learning_rate=1)
    for name in CHOICES.keys() - chosen.keys():
        assert {getattr(point.hyperparameters, name) for point in found.points} == {getattr(defaults, name)}


@pytest.mark.parametrize(
    ("hyperparameters", "problem"),
    [
        ("learning_rate: []", "c.yaml:8: `hyperparameters.learning_rate` is an empty list"),
        ("learning_rate: -1e-6", "c.yaml:8: `hyperparameters.learning_rate`: input should be greater than 0 (got"),
        ("learning_rate: 0", "c.yaml:8: `hyperparameters.learning_rate`: input should be greater than 0 (got 0)"),
        ("learning_rate: fast", "c.yaml:8: `hyperparameters.learning_rate`: input should be a valid number"),
        ("learning_rate: true", "c.yaml:8: `hyperparameters.learning_rate`: input should be a number, not true"),
        ("learning_rate: [[1e-6]]", "c.yaml:8: `hyperparameters.learning_rate`: input should be a valid number"),
        ("learning_rate: .inf", "c.yaml:8: `hyperparameters.learning_rate`: input should be a valid number"),
        ("learning_rate: 1\nseed: -1", "c.yaml:9: `hyperparameters.seed`: input should be greater than or equal to 0"),
        ("learning_rate: 1\nsteps: 0", "c.yaml:9: `hyperparameters.steps`: input should be greater than or equal to 1"),
        ("learning_rate: 1\nsteps: 1.5", "c.yaml:9: `hyperparameters.steps`: input should be a valid integer"),
        ("learning_rate: 1\nlr_schedule: step", "c.yaml:9: `hyperparameters.lr_schedule`: input should be 'constant'"),
        ("learning_rate: 1\nlearning_rat: 1", "c.yaml:9: unknown key `hyperparameters.learning_rat`; did you mean"),
        ("batch_size: 8", "c.yaml:7: missing key `hyperparameters.learning_rate` (step size)"),
        ("- 1e-6", "c.yaml:7: `hyperparameters` is a group of settings; known here: learning_rate, "),
        ("", "c.yaml:7: `hyperparameters` is a group of settings"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(hyperparameters: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        grid_of(hyperparameters)
    assert str(caught.value.problems[0]).startswith(problem)
    assert len(caught.value.problems) == 1
    assert caught.value.exit_code == 3


def test_a_grid_that_nobody_can_have_meant_is_refused_at_once() -> None:
    many = f"[{', '.join(map(str, range(1, 1001)))}]"
    with pytest.raises(ConfigError, match=r"c.yaml:7: its lists span 1,000,000,000 points, more than 10,000"):
        grid_of(f"learning_rate: 1\nseed: {many}\nsteps: {many}\nbatch_size: {many}")


def test_without_the_group_its_absence_is_said() -> None:
    with pytest.raises(ConfigError, match="missing key `hyperparameters`"):
        grid(configs.parse(CONFIG.replace("hyperparameters:\n", ""), "c.yaml"))


def test_every_problem_of_every_point_is_said_once() -> None:
    with pytest.raises(ConfigError) as caught:
        grid_of("learning_rate:\n- 1e-6\n- -1\n- 0\nbatch_size: [0, 8]\nseed: [1, 2]")
    assert [str(problem).partition(": input")[0] for problem in caught.value.problems] == [
        "c.yaml:12: `hyperparameters.batch_size`",
        "c.yaml:10: `hyperparameters.learning_rate`",
        "c.yaml:11: `hyperparameters.learning_rate`",
    ]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({}, "give path"),
        ({"path": "a", "paths": ["b"]}, "give path"),
        ({"path": "a", "type": "original"}, "give path"),
        ({"path": ""}, "at least 1 character"),
        ({"paths": []}, "at least 1 item"),
    ],
)
def test_data_is_named_in_one_way(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        DataSpec(**given)


@pytest.mark.parametrize(("given", "found"), [(0, "0"), ("0,1", "0,1"), ("cpu", "cpu"), (None, None)])
def test_a_device_may_be_a_number(given: object, found: str | None) -> None:
    assert config(cuda_devices=given).cuda_devices == found


def config(method: str = "zo", **changes: Any) -> TrainingConfig:
    document: dict[str, Any] = {
        "model": "m", "task": "Copa", "method": method, "data": {"path": "d"},
        "hyperparameters": {"learning_rate": 1e-3, **changes.pop("hyperparameters", {})},
    }  # fmt: skip
    return TrainingConfig.model_validate({**document, **changes})


def filled(*arguments: Any, **changes: Any) -> TrainingConfig:
    return effective(config(*arguments, **changes), num_dev=100, classification=False)


@pytest.mark.parametrize(
    ("method", "schedule", "rank"), [("zo", "constant", None), ("fo_full", "linear", None), ("fo_lora", "linear", 8)]
)
def test_defaults_follow_the_method_and_the_task(method: str, schedule: str, rank: int | None) -> None:
    found = filled(method, hyperparameters={"steps": 24})
    assert (found.hyperparameters.lr_schedule, found.hyperparameters.lora_rank) == (schedule, rank)
    assert (found.hyperparameters.eval_steps, found.num_dev, found.train_as_classification) == (4, 100, False)
    assert filled(method, hyperparameters={"steps": 3}).hyperparameters.eval_steps == 1


def test_what_is_given_stays() -> None:
    given = {"eval_steps": 7, "lr_schedule": "cosine", "lora_rank": 2}
    found = filled("fo_lora", hyperparameters=given, num_dev=5, train_as_classification=True)
    assert given.items() <= found.hyperparameters.model_dump().items()
    assert (found.num_dev, found.train_as_classification) == (5, True)
    assert effective(found, num_dev=1, classification=False) == found


@pytest.mark.parametrize(
    ("method", "rank", "names"),
    [
        ("zo", None, {"gradient_accumulation", "lora_rank", "lora_alpha", "gradient_checkpointing"}),
        ("zo", 4, {"gradient_accumulation", "gradient_checkpointing"}),
        ("fo_full", 4, {"zo_eps", "zo_directions", "lora_rank", "lora_alpha", "zo_memory"}),
        ("fo_lora", None, {"zo_eps", "zo_directions", "zo_memory"}),
    ],
)
def test_what_does_nothing_for_a_method_is_known(method: str, rank: int | None, names: set[str]) -> None:
    found = filled(method, hyperparameters={"lora_rank": rank})
    assert {name.rpartition(".")[2] for name in without_effect(found)} == names
    assert without_effect(found) <= settings(found).keys()


def test_only_what_operates_a_run_is_marked_so() -> None:
    groups = (TrainingConfig, Hyperparameters)
    marked = {name for spec in groups for name, field in spec.model_fields.items() if marks(field)["operational"]}
    assert marked == {
        "experiment", "data", "cuda_devices", "wait_for_completion", "continue_on_error", "gradient_checkpointing",
        "save_model",
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(Hyperparameters.model_fields.keys() - {"lr_schedule"}))
@pytest.mark.parametrize("value", [-1, math.nan, math.inf, True, 1e300])
def test_every_number_is_bounded(name: str, value: float) -> None:
    with pytest.raises(ValidationError):
        config(hyperparameters={name: value})
