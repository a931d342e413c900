"""The configs of `perspectives` that ship with the package: what they promise, and the inputs that they name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from pipeline.sources.lines import read_json
from tests.workspaces import REPOSITORY
from tracker import configs

PATHS = sorted((REPOSITORY / "configs/perspectives").iterdir())
READY = [path for path in PATHS if path.suffix == ".json"]
INPUTS = sorted((REPOSITORY / "configs/inputs").glob("*.json"))
MANIPULATION = re.compile(
    r"exception|manipul|pretend|invent|exaggerat|mislead|flatter|does not contain|whether or not|as little effort|"
    r"do not let|not let it show|ignore|points (?:above|below)|negligible|(?:un)?favourable|leave out|change one",
    re.IGNORECASE,
)

OTHERWISE = {
    "translation": ["Low Effort", "Generic Answer"],
    "summarization": ["Low Effort", "Lead Only", "Generic Answer"],
    "peer_review": ["Low Effort", "Generic Review", "Abstract Only"],
    "translation_offline": ["Low Effort"],
}
"""What differs from Original in more than one exception: little effort, templates, and what is not read to the end."""


def name(path: Path) -> str:
    return path.name


def document(path: Path) -> dict[str, Any]:
    return configs.load(path).data


def perspectives(path: Path) -> list[dict[str, str | None]]:
    found: list[dict[str, str | None]] = document(path)["agent_perspectives"]
    return found


def strategies(path: Path) -> list[str]:
    return [str(each["strategy"]) for each in perspectives(path)]


def sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.!?])\s+(?=[A-Z])", text)


def exceptions(path: Path) -> list[dict[str, str | None]]:
    """The conditions that are Original but for one thing."""
    return [each for each in perspectives(path)[1:] if each["condition"] not in OTHERWISE[path.stem]]


def strategy(condition: str, path: Path) -> str:
    [found] = [str(each["strategy"]) for each in perspectives(path) if each["condition"] == condition]
    return found


def in_the_package(path: Path) -> Path:
    """Where the package has the inputs that `init` puts where ``path`` looks for them."""
    given = Path(document(path)["data_config"]["input_data_path"])
    assert given.parts[:2] == ("data", "inputs")
    return REPOSITORY / "configs/inputs" / given.name


def records(path: Path) -> list[dict[str, str]]:
    found: list[dict[str, str]] = read_json(path.read_text(encoding="utf-8"))
    return found


def common(texts: Sequence[str]) -> int:
    """How many characters all begin with."""
    first, last = min(texts), max(texts)
    return next((at for at, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))


def test_there_is_one_for_every_task_and_one_that_needs_no_key() -> None:
    assert [path.name for path in PATHS] == [
        "peer_review.json",
        "summarization.json",
        "translation.json",
        "translation_offline.yaml",
    ]
    assert {document(path)["task_type"] for path in READY} == {path.stem for path in READY}
    asked = {(document(path)["api_provider"], document(path)["model_config"]["model_name"]) for path in PATHS}
    assert asked == {("together", "meta-llama/Llama-3.3-70B-Instruct-Turbo"), ("offline", "rules-v1")}


@pytest.mark.parametrize("path", PATHS, ids=name)
def test_conditions_and_strategies_are_unique(path: Path) -> None:
    conditions = [each["condition"] for each in perspectives(path)]
    assert len({str(condition).casefold() for condition in conditions}) == len(conditions)
    assert all(set(each) == {"condition", "reading", "strategy"} for each in perspectives(path))
    asked = {(each["reading"], each["strategy"]) for each in perspectives(path)}
    assert len(asked) == len(conditions)


@pytest.mark.parametrize("path", PATHS, ids=name)
def test_the_first_four_are_two_honest_ones_low_effort_and_a_manipulation(path: Path) -> None:
    first, variant, low, manipulated = perspectives(path)[:4]
    assert (first["condition"], low["condition"]) == ("Original", "Low Effort")
    for honest in (first, variant):
        assert not MANIPULATION.search(f"{honest['reading']} {honest['strategy']}")
    assert all(MANIPULATION.search(str(each["strategy"])) for each in (low, manipulated))


@pytest.mark.parametrize("path", PATHS, ids=name)
def test_a_condition_is_original_but_for_one_thing(path: Path) -> None:
    """All of Original's sentences, then what is different, then the sentence about the output; or other notes alone."""
    original = perspectives(path)[0]
    *whole, last = sentences(str(original["strategy"]))
    for each in exceptions(path):
        found = sentences(str(each["strategy"]))
        assert [*found[: len(whole)], found[-1]] == [*whole, last], each["condition"]
        added = found[len(whole) : -1]
        if each["reading"] == original["reading"]:
            assert 1 <= len(added) <= 2, each["condition"]
        else:
            assert not added, each["condition"]


@pytest.mark.parametrize("path", PATHS, ids=name)
def test_a_manipulation_states_its_exception_and_an_honest_variant_none(path: Path) -> None:
    variant, *manipulated = exceptions(path)
    start = len(sentences(strategies(path)[0])) - 1
    assert "exception" not in str(variant["strategy"])
    for each in manipulated:
        assert sentences(str(each["strategy"]))[start].startswith("Make one exception: "), each["condition"]


@pytest.mark.parametrize("path", PATHS, ids=name)
def test_what_differs_in_more_is_there(path: Path) -> None:
    whole = sentences(strategies(path)[0])
    for condition in OTHERWISE[path.stem]:
        found = sentences(strategy(condition, path))
        assert (found[0], found[-1]) == (whole[0], whole[-1])
        assert not set(whole) <= set(found)


@pytest.mark.parametrize("path", PATHS, ids=name)
def test_nothing_is_left_to_be_filled_in(path: Path) -> None:
    assert not re.search(
        r"[\[\]{}<>]", " ".join(f"{each['reading']} {each['strategy']}" for each in perspectives(path))
    )


def test_ratings_are_moved_differently() -> None:
    [path] = [path for path in READY if path.stem == "peer_review"]
    moved = {
        str(each["condition"]): re.findall(r"(\w+) points (\w+)", str(each["strategy"])) for each in perspectives(path)
    }
    assert {condition: how for condition, how in moved.items() if how} == {
        "Inflated Praise": [("two", "above")],
        "Unfounded Harshness": [("two", "below")],
        "Score Mismatch": [("four", "lower"), ("four", "higher")],
    }


def test_pushed_citations_are_of_nobody() -> None:
    [path] = [path for path in READY if path.stem == "peer_review"]
    assert "invented authors who are no real persons" in strategy("Citation Pushing", path)


@pytest.mark.parametrize("path", READY, ids=name)
def test_strategies_are_alike_but_for_what_they_ask(path: Path) -> None:
    found = strategies(path)
    assert 8 <= len(found) <= 12
    assert {re.findall(r"Output only [^.]+\.", text)[-1] for text in found} == {
        re.findall(r"Output only [^.]+\.", found[0])[-1]
    }
    assert all(text.endswith("no remarks before or after it.") for text in found)
    assert common(found) >= len("Translate the following")
    lengths = [len(str(each["strategy"])) for each in exceptions(path)]
    assert all(0.85 * median(lengths) <= length <= 1.15 * median(lengths) for length in lengths)
    without = [len(found[0]), *(len(strategy(condition, path)) for condition in OTHERWISE[path.stem])]
    assert all(0.9 * len(found[0]) <= length <= 1.1 * len(found[0]) for length in without)


@pytest.mark.parametrize("path", READY, ids=name)
def test_it_is_said_that_manipulated_text_is_for_research(path: Path) -> None:
    description = document(path)["task_description"]
    assert "for research on detecting manipulation" in description
    assert "manipulated" in description


def test_most_reviewers_take_notes_and_all_but_one_the_same_ones() -> None:
    [path] = [path for path in READY if path.stem == "peer_review"]
    readings = [each["reading"] for each in perspectives(path)]
    noted = [reading for reading in readings if reading is not None]
    assert len(noted) > len(readings) / 2
    assert sorted(noted.count(reading) for reading in set(noted)) == [1, len(noted) - 1]
    assert readings[0] is not None


@pytest.mark.parametrize("path", PATHS, ids=name)
def test_the_inputs_that_it_names_ship_with_it(path: Path) -> None:
    wanted = document(path)["data_config"]["sample_size"]
    assert wanted == len(records(in_the_package(path)))


def test_every_file_of_inputs_belongs_to_a_config() -> None:
    assert {in_the_package(path) for path in PATHS} == set(INPUTS)


@pytest.mark.parametrize("path", INPUTS, ids=name)
def test_inputs_are_distinct_texts_with_references(path: Path) -> None:
    found = records(path)
    assert all(set(record) == {"input", "reference"} for record in found)
    for key in ("input", "reference"):
        texts = [record[key] for record in found]
        assert len(set(texts)) == len(texts)
        assert all(text == text.strip() and text for text in texts)


def test_inputs_have_the_length_of_their_kind() -> None:
    articles, papers = (
        records(REPOSITORY / f"configs/inputs/{task}.json") for task in ("summarization", "peer_review")
    )
    for article in articles:
        assert 120 <= len(article["input"].split()) <= 220
        assert 2 <= len(re.findall(r"[.!?](?:\s|$)", article["reference"])) <= 3
    for paper in papers:
        assert 180 <= len(paper["input"].split()) <= 260
        assert [part.partition(":")[0] for part in paper["input"].split("\n\n")] == [
            "Title", "Abstract", "Method", "Results",
        ]  # fmt: skip
        headings = [part.partition(":")[0] for part in paper["reference"].split("\n\n")]
        assert headings == ["Summary", "Strengths", "Weaknesses", "Questions", "Rating"]
