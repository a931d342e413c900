"""The log keeps every step that was appended, cuts off what a crash tore, and is refused where it is damaged."""

from __future__ import annotations

import dataclasses
import resource
import signal
from pathlib import Path

import pytest

from pipeline.training.zo_log import Header, Log, StepRecord, differences
from tracker.errors import Corrupt, StorageError

HEADER = Header(
    base_step=0,
    weights="aa",
    model="aa",
    noise="12345678",
    seed=3,
    eps=1e-3,
    directions=2,
    memory="keep",
    precision="fp32",
    weight_decay=0.0,
    settings={"learning_rate": 1e-6, "lora_rank": None},
)


def record(step: int) -> StepRecord:
    return StepRecord(step, 0.5**step, 2.0 + step, (1.5 * step, -0.25))


def written(path: Path, count: int, header: Header = HEADER) -> list[StepRecord]:
    log = Log.create(path, header)
    records = [record(header.base_step + number) for number in range(count)]
    for each in records:
        log.append(each)
    log.close()
    return records


def reopened(path: Path) -> tuple[Header, list[StepRecord]]:
    log = Log(path)
    log.close()
    return log.header, log.records


@pytest.mark.parametrize("base", [0, 40])
def test_what_was_appended_is_read_again(tmp_path: Path, base: int) -> None:
    header = dataclasses.replace(HEADER, base_step=base)
    records = written(tmp_path / "log", 5, header)
    assert reopened(tmp_path / "log") == (header, records)
    log = Log(tmp_path / "log")
    log.append(record(base + 5))
    log.close()
    assert reopened(tmp_path / "log")[1] == [*records, record(base + 5)]


def test_a_tail_torn_at_any_byte_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "log"
    records = written(path, 3)
    whole = path.read_bytes()
    size = 5 * 4
    begin = len(whole) - 3 * size
    for length in range(begin, len(whole) + 1):
        path.write_bytes(whole[:length])
        log = Log(path)
        left = (length - begin) // size
        assert log.records == records[:left]
        log.append(record(left))
        log.close()
        assert reopened(path)[1] == [*records[:left], record(left)]


@pytest.mark.parametrize("after", [b"\0" * 4096, b"rubbish"])
def test_what_a_power_cut_puts_behind_the_end_is_cut_off(tmp_path: Path, after: bytes) -> None:
    records = written(tmp_path / "log", 3)
    with (tmp_path / "log").open("ab") as file:
        file.write(after)
    assert reopened(tmp_path / "log")[1] == records


def test_a_damaged_record_ends_the_log(tmp_path: Path) -> None:
    path = tmp_path / "log"
    records = written(path, 4)
    whole = bytearray(path.read_bytes())
    whole[-30] ^= 1
    path.write_bytes(whole)
    assert reopened(path)[1] == records[:2]


def test_a_record_counts_only_in_its_place(tmp_path: Path) -> None:
    for name, header in (("one", HEADER), ("two", dataclasses.replace(HEADER, seed=4))):
        written(tmp_path / name, 3, header)
    one, two = ((tmp_path / name).read_bytes() for name in ("one", "two"))
    (tmp_path / "moved").write_bytes(one[:-40] + one[-20:])
    assert len(reopened(tmp_path / "moved")[1]) == 1
    (tmp_path / "foreign").write_bytes(one[:-60] + two[-60:])
    assert reopened(tmp_path / "foreign")[1] == []


def test_steps_are_appended_in_order(tmp_path: Path) -> None:
    written(tmp_path / "log", 2)
    log = Log(tmp_path / "log")
    for wrong in (1, 3):
        with pytest.raises(ValueError, match=f"step {wrong} does not follow"):
            log.append(record(wrong))
    log.close()


def test_a_damaged_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log"
    written(path, 1)
    whole = path.read_bytes()
    for damaged in (b"", whole[:9], whole[:40], b"other" + whole[5:], whole.replace(b'"keep"', b'"held"')):
        path.write_bytes(damaged)
        with pytest.raises(Corrupt, match="no log of a zo run, or its header is damaged"):
            Log(path)


def test_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Corrupt, match="has format 9, this version of synthtrack reads 1"):
        written(tmp_path / "log", 1, dataclasses.replace(HEADER, format=9))


def test_twenty_thousand_steps_are_kilobytes(tmp_path: Path) -> None:
    log = Log.create(tmp_path / "log", dataclasses.replace(HEADER, directions=1))
    for step in range(1000):
        log.append(StepRecord(step, 1e-6, 2.0, (0.5,)))
    log.close()
    assert ((tmp_path / "log").stat().st_size - 600) * 20 < 320_000


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    log = Log.create(tmp_path / "log", HEADER)
    log.append(record(0))
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "log").stat().st_size + 7, limits[1]))
        with pytest.raises(StorageError, match="cannot be written"):
            log.append(record(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    log.close()
    assert reopened(tmp_path / "log")[1] == [record(0)]


def test_a_place_that_takes_no_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        Log.create(tmp_path / "file" / "log", HEADER)


def test_differences_name_what_changed_and_not_where_it_begins() -> None:
    assert differences(HEADER, dataclasses.replace(HEADER, base_step=9, weights="bb")) == []
    other = dataclasses.replace(HEADER, eps=1e-4, settings={"learning_rate": 1e-5, "lora_rank": None}, model="b" * 64)
    assert differences(HEADER, other) == [
        "eps 0.001, now 0.0001",
        "learning_rate 1e-06, now 1e-05",
        "model aa, now bbbbbbbbbbbb",
    ]
