"""Where results go: names that people can read and look for, and directories that no two runs share."""

from __future__ import annotations

import math
import multiprocessing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipeline.training import places
from tests.faults.surroundings import mounted, read_only
from tracker.errors import StorageError

MOMENT = datetime(2026, 11, 20, 21, 46, 52, 999_999, UTC)


@pytest.mark.parametrize(
    ("rate", "name"),
    [
        (1e-6, "1_6"), (5e-7, "5_7"), (1.5e-6, "1.5_6"), (2.0, "2_0"), (0.001, "1_3"), (0.0003, "3_4"), (1e-10, "1_10"),
        (0.1, "1_1"), (0.00012345, "1.2345_4"), (10.0, "1_-1"), (25.0, "2.5_-1"), (1, "1_0"),
    ],
)  # fmt: skip
def test_rates_are_named_as_people_write_them(rate: float, name: str) -> None:
    assert places.rate_name(rate) == name


@given(*[st.floats(1e-300, 100, allow_nan=False)] * 2)
def test_a_rate_can_be_read_from_its_name(one: float, other: float) -> None:
    mantissa, _, exponent = places.rate_name(one).partition("_")
    assert float(f"{mantissa}e{-int(exponent)}") == one
    assume(one != other)
    assert places.rate_name(one) != places.rate_name(other)


@pytest.mark.parametrize(
    ("model", "directory"),
    [
        ("meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.2-1B"),
        ("gpt2", "gpt2"),
        ("scratch:llama-tiny", "scratch-llama-tiny"),
        ("/models/my llama", "my-llama"),
        ("./models/llama/", "llama"),
        ("../llama", "llama"),
        ("a/b/c", "c"),
        ("owner/..", "owner/model"),
        ("..", "model"),
        ("/", "model"),
        (".hidden", "hidden"),
        (" gpt2 ", "gpt2"),
    ],
)
def test_a_model_makes_a_directory(model: str, directory: str) -> None:
    assert places.model_directory(model) == Path(directory)


@given(st.text(min_size=1, max_size=30) | st.text("./ -_aB:", min_size=1, max_size=12))
def test_no_model_leads_out_of_the_results(model: str) -> None:
    found = places.model_directory(model)
    assert 1 <= len(found.parts) <= 2
    assert not found.is_absolute()
    assert all(part not in {"", ".", ".."} and "/" not in part for part in found.parts)


def test_a_point_has_a_directory() -> None:
    found = places.results_directory(
        Path("R"), purpose="tuning", model="meta-llama/Llama-3.2-1B", task="Copa", method="zo", data="temp07", rate=1e-6
    )
    assert found == Path("R/tuning/meta-llama/Llama-3.2-1B/Copa_zo_temp07_1_6")


def test_output_files_are_named_by_the_rate() -> None:
    assert [path.name for path in places.output_files(Path("d"), 1e-6)] == ["1_6_train.out", "1_6_train.err"]


def test_runs_that_begin_in_one_second_have_their_own_directories(tmp_path: Path) -> None:
    found = [places.make_directory(tmp_path / "a/b", MOMENT) for _ in range(3)]
    assert [path.name for path in found] == ["20261120_214652", "20261120_214652_2", "20261120_214652_3"]
    assert all(path.is_dir() for path in found)


def _make(parent: str) -> list[str]:
    return [places.make_directory(Path(parent), MOMENT).name for _ in range(25)]


def test_processes_that_begin_in_one_second_have_their_own_directories(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        found = [name for names in pool.map(_make, [str(tmp_path / "new")] * 4) for name in names]
    assert len(set(found)) == len(found) == 100
    assert {path.name for path in (tmp_path / "new").iterdir()} == set(found)


@pytest.mark.parametrize("kind", ["file", "dangling link"])
def test_what_stands_in_the_way_is_said(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "20261120_214652"
    if kind == "file":
        place.write_text("mine")
    else:
        place.symlink_to("nowhere")
    with pytest.raises(StorageError, match="is in the way: not a directory") as caught:
        places.make_directory(tmp_path, MOMENT)
    assert caught.value.exit_code == 11


def test_a_file_above_is_said(tmp_path: Path) -> None:
    (tmp_path / "Results_v2").write_text("mine")
    with pytest.raises(StorageError, match="cannot be made: Not a directory") as caught:
        places.make_directory(tmp_path / "Results_v2/tuning", MOMENT)
    assert "SYNTHTRACK_RESULTS_DIR" in str(caught.value.hint)


def test_a_read_only_disk_is_said(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "1m") as disk, read_only(disk), pytest.raises(StorageError, match="Read-only"):
        places.make_directory(disk / "Results_v2", MOMENT)


def test_a_name_that_is_too_long_is_said(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="File name too long"):
        places.make_directory(tmp_path / ("+".join(["temp07_topp10_gpt4o"] * 20)), MOMENT)


def test_a_rate_is_never_zero_or_infinite() -> None:
    """The spec keeps them out; here it would be a wrong name."""
    with pytest.raises(AssertionError):
        places.rate_name(math.inf)
    with pytest.raises(AssertionError):
        places.rate_name(-1e-6)
