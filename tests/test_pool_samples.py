"""The sample benchmarks that ship: the real ones' formats, answers that are right, and enough of easy and hard."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from pipeline.pools.difficulty import LONG_QUESTION, SCORERS, scaled
from pipeline.pools.sources import Full, read_full
from pipeline.pools.specs import BenchmarksConfig, BenchmarkSpec, PoolConfig
from pipeline.pools.stream import allocated, thresholds
from tests.workspaces import REPOSITORY
from tracker import configs

POOLS = REPOSITORY / "configs/pools"
BENCHMARKS = configs.validate(BenchmarksConfig, configs.load(POOLS / "data_config_sample.yaml"))
POOL = configs.validate(PoolConfig, configs.load(POOLS / "sample.yaml"))
KEYS = {
    "humaneval": ["task_id", "prompt", "entry_point", "canonical_solution", "test"],
    "gsm8k": ["question", "answer"],
    "bbh": ["input", "target"],
    "amc": ["id", "problem", "answer", "number"],
    "medical_qa": ["question", "answer", "options", "meta_info", "answer_idx", "metamap_phrases"],
}
STEP = re.compile(r"(\S+) = <<(\S+)=(-?\d+)>>(-?\d+)")
FACING = {"forward": 1j, "backward": -1j, "left": -1 + 0j, "right": 1 + 0j}
TURN = {"Turn left": 1j, "Turn right": -1j, "Turn around": -1 + 0j}


def in_the_package(given: str) -> Path:
    """Where the package has what `init` puts into data/inputs."""
    return REPOSITORY / "configs/inputs" / Path(given).relative_to("data/inputs")


def full(name: str) -> Full:
    spec: BenchmarkSpec = BENCHMARKS.benchmarks[name]
    return read_full(name, spec, in_the_package)


def raw(name: str, part: str | None = None) -> list[dict[str, Any]]:
    return [dict(record.raw) for record in full(name).records if record.task == part]


def run(task: dict[str, Any], body: str) -> None:
    """Runs a task's tests on a body of its function. Raises AssertionError."""
    space: dict[str, Any] = {}
    exec(f"{task['prompt']}{body}{task['test']}", space)
    space["check"](space[task["entry_point"]])


@pytest.mark.parametrize("name", SCORERS)
def test_tasks_have_the_keys_of_their_benchmark_and_are_distinct(name: str) -> None:
    found = full(name)
    assert len(found.texts) >= 40
    assert len(set(found.texts)) == len(found.texts)
    assert all(list(record.raw) == KEYS[name] for record in found.records)


@pytest.mark.parametrize("name", SCORERS)
def test_there_are_enough_easy_and_hard_tasks_for_the_sample_pool(name: str) -> None:
    scores = scaled(SCORERS[name](full(name).records).scores)
    percentiles = BENCHMARKS.stream_generation.difficulty_percentiles[name]
    bounds = thresholds(scores, percentiles)
    bins = [bounds.bin_of(score) for score in scores]
    wanted = allocated(POOL.n_total_tasks, dict.fromkeys(POOL.benchmarks, 1 / len(POOL.benchmarks)), 0.5)
    assert all(bins.count(each) >= wanted[name, each] for each in ("easy", "hard"))
    assert bounds.low < bounds.high
    assert len(set(scores)) >= 8


@pytest.mark.parametrize("task", raw("humaneval"), ids=lambda task: str(task["entry_point"]))
def test_solutions_pass_their_tests_and_nothing_else_does(task: dict[str, Any]) -> None:
    run(task, task["canonical_solution"])
    for other in ("    return None\n", "    return False\n", "    return 0\n", "    return []\n", "    return ''\n"):
        with pytest.raises(AssertionError):
            run(task, other)


@pytest.mark.parametrize("task", raw("gsm8k"), ids=lambda task: str(task["question"])[:30])
def test_sums_are_right_and_made_of_what_is_known(task: dict[str, Any]) -> None:
    *lines, last = task["answer"].split("\n")
    known = {*map(int, re.findall(r"\d+", task["question"])), 2}
    for line in lines:
        found = STEP.search(line)
        assert found is not None, line
        shown, expression, value, again = found.groups()
        assert shown == expression
        assert eval(re.sub(r"\d+", r"Fraction(\g<0>)", expression), {"Fraction": Fraction}) == int(value) == int(again)
        assert set(map(int, re.findall(r"\d+", expression))) <= known, line
        known.add(int(value))
    assert last == f"#### {value}"
    assert int(value) > 0


@pytest.mark.parametrize("task", raw("bbh", "boolean_expressions"), ids=lambda task: str(task["input"])[:30])
def test_boolean_expressions_have_that_value(task: dict[str, Any]) -> None:
    expression = task["input"].removesuffix(" is")
    assert set(expression.split()) <= {"True", "False", "and", "or", "not", "(", ")"}
    assert task["target"] == str(eval(expression))


@pytest.mark.parametrize("task", raw("bbh", "navigate"), ids=lambda task: str(task["input"])[90:140])
def test_walks_end_there(task: dict[str, Any]) -> None:
    text, _, options = task["input"].partition("\nOptions:\n")
    assert options == "- Yes\n- No"
    place, ahead = 0j, 1j
    for step in re.findall(r"Take \d+ steps?(?: \w+)?|Turn \w+", text):
        if step in TURN:
            ahead *= TURN[step]
            continue
        _, n, _, *direction = step.split()
        assert bool(direction) is ("always face the same way" in text)
        place += int(n) * (FACING[direction[0]] if direction else ahead)
    assert task["target"] == ("No" if place else "Yes")


@pytest.mark.parametrize(("part", "answers"), [("boolean_expressions", "True False"), ("navigate", "Yes No")])
def test_no_answer_is_right_more_often(part: str, answers: str) -> None:
    found = [task["target"] for task in raw("bbh", part)]
    assert [found.count(each) for each in answers.split()] == [20, 20]


def paths(x: int, y: int, without: tuple[int, int] | None = None) -> int:
    ways = {(0, 0): 1}
    for at in itertools.product(range(x + 1), range(y + 1)):
        if at != (0, 0):
            ways[at] = 0 if at == without else ways.get((at[0] - 1, at[1]), 0) + ways.get((at[0], at[1] - 1), 0)
    return ways[x, y]


def choices(items: int, size: int) -> int:
    found = itertools.combinations(range(items), size)
    return sum(all(after - before > 1 for before, after in itertools.pairwise(each)) for each in found)


def triangles(perimeter: int) -> int:
    sides = itertools.combinations_with_replacement(range(1, perimeter), 3)
    return sum(sum(each) == perimeter and each[0] + each[1] > each[2] for each in sides)


def distinct_sums(total: int) -> int:
    return sum(
        sum(each) == total for size in range(1, total + 1) for each in itertools.combinations(range(1, total + 1), size)
    )


SOLUTIONS: Sequence[tuple[str, Callable[..., int | Fraction]]] = (
    (r"What is \$(\d+) \\times (\d+) - (\d+) \\times (\d+)\$", lambda a, b, c, d: a * b - c * d),
    (r"sum of all odd integers from \$1\$ to \$(\d+)\$", lambda n: sum(range(1, n + 1, 2))),
    (r"mean of \$(\d+)\$ numbers is \$(\d+)\$. What is their sum", lambda n, mean: n * mean),
    (
        r"mean of \$(\d+)\$ numbers is \$(\d+)\$. The number \$(\d+)\$ is added",
        lambda n, mean, more: Fraction(n * mean + more, n + 1),
    ),
    (
        r"\$(\d+)\$ miles apart and ride towards each other at \$(\d+)\$ and \$(\d+)\$",
        lambda way, one, other: Fraction(way, one + other),
    ),
    (
        r"integers up to \$(\d+)\$ are divisible by \$(\d+)\$ or by \$(\d+)\$, but not by both",
        lambda n, a, b: len(set(range(a, n + 1, a)) ^ set(range(b, n + 1, b))),
    ),
    (r"positive divisors does \$(\d+)\$", lambda n: sum(n % each == 0 for each in range(1, n + 1))),
    (r"remainder when \$(\d+)\^{(\d+)}\$ is divided by \$(\d+)\$", lambda base, power, by: base**power % by),
    (
        r"exactly \$(\d+)\$ digits have digits that sum to \$(\d+)\$",
        lambda n, total: sum(each[0] > 0 and sum(each) == total for each in itertools.product(range(10), repeat=n)),
    ),
    (r"\$\(0,0\)\$ to \$\((\d+),(\d+)\)\$ .* up. How many", paths),
    (
        r"\$\(0,0\)\$ to \$\((\d+),(\d+)\)\$ .* never steps on \$\((\d+),(\d+)\)\$",
        lambda x, y, a, b: paths(x, y, (a, b)),
    ),
    (
        r"\$(\d+)\$ fair dice .* equal to \$(\d+)\$",
        lambda n, total: sum(sum(each) == total for each in itertools.product(range(1, 7), repeat=n)),
    ),
    (
        r"\$(\d+)\$ letters are put into",
        lambda n: sum(
            all(at != to for at, to in enumerate(each)) for each in itertools.permutations(range(n))
        ),
    ),
    (
        r"x\^2 \+ y\^2 \\le (\d+)\$",
        lambda n: sum(x * x + y * y <= n for x, y in itertools.product(range(-n, n + 1), repeat=2)),
    ),
    (
        r"sequences of \$(\d+)\$ letters, each \$A\$ or \$B\$, do not contain \$AA\$",
        lambda n: sum("AA" not in "".join(each) for each in itertools.product("AB", repeat=n)),
    ),
    (r"whole length and perimeter \$(\d+)\$", triangles),
    (r"\$(\d+)\$ chairs .* can \$(\d+)\$ of them", choices),
    (
        r"N = (\d+)!",
        lambda n: len(re.findall("0*$", str(math.factorial(n)))[0]),
    ),
    (r"can \$(\d+)\$ be written as a sum of distinct positive integers", distinct_sums),
)  # fmt: skip


@pytest.mark.parametrize("task", raw("amc"), ids=lambda task: f"{task['id']}")
def test_contest_problems_have_that_answer(task: dict[str, Any]) -> None:
    found = [(re.search(pattern, task["problem"]), solve) for pattern, solve in SOLUTIONS]
    [(numbers, solve)] = [(match.groups(), solve) for match, solve in found if match is not None]
    assert task["answer"] == float(solve(*map(int, numbers)))


def test_contest_problems_come_from_the_whole_paper() -> None:
    numbers = [task["number"] for task in raw("amc")]
    assert set(numbers) == set(range(1, 31))
    assert all(list(task) == KEYS["amc"] for task in raw("amc"))


def test_medical_questions_have_four_options_one_of_which_is_the_answer() -> None:
    found = raw("medical_qa")
    for task in found:
        assert list(task["options"]) == ["A", "B", "C", "D"]
        assert len(set(task["options"].values())) == 4
        assert task["options"][task["answer_idx"]] == task["answer"]
        assert task["question"].endswith("?")
    assert [sum(task["answer_idx"] == each for task in found) for each in "ABCD"] == [10, 10, 10, 10]
    assert sum(len(task["question"].split()) > LONG_QUESTION for task in found) == 5


def test_the_sample_pool_is_drawn_from_what_ships() -> None:
    assert set(BENCHMARKS.benchmarks) == set(SCORERS) == set(POOL.benchmarks)
    assert POOL.data_config == "data_config_sample.yaml"
    files = {in_the_package(spec.path.removeprefix("file:")) for spec in BENCHMARKS.benchmarks.values()}
    assert files == set((REPOSITORY / "configs/inputs/benchmarks").iterdir())
    assert json.loads(full("amc").texts[0])["id"] == 0
