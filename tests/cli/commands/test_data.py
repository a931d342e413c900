"""``synthtrack data``: from a copy on the disk to a file that `perspectives` takes."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.workspaces import REPOSITORY, Done, call, execute

COUNT = 30
NEXT = "synthtrack perspectives configs/perspectives/translation.json"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A workspace's directory with a copy of each data set beside it."""
    for name, rows in (
        ("wmt", [{"translation": {"de": f"Satz {at}.", "en": f"Sentence {at}."}} for at in range(COUNT)]),
        ("cnn", [{"article": f"Article {at}.", "highlights": f"Highlight {at}." if at else ""} for at in range(COUNT)]),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "test.json").write_text(json.dumps(rows), encoding="utf-8")
    root = tmp_path / "workspace"
    root.mkdir()
    for name in ("translation.json", "summarization.json"):
        config = root / "configs/perspectives" / name
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_bytes((REPOSITORY / "configs/perspectives" / name).read_bytes())
    return root


@contextmanager
def hub_that_is_down() -> Iterator[tuple[str, list[str]]]:
    """The address of a server that answers 503 to whatever it is asked, and what it was asked."""
    asked: list[str] = []

    class Down(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(503)

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Down) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def from_the_hub(root: Path, address: str) -> Done:
    """In a process of its own: the hub's client reads its address when it is imported."""
    hub = {"HF_ENDPOINT": address, "HF_HOME": str(root / "hf"), "HF_HUB_OFFLINE": None, "NO_PROXY": "127.0.0.1"}
    return execute(root, "data", "fetch", "wmt14-de-en", "--sample", 3, environ=hub)


def fetched(root: Path, *more: object, name: str = "wmt14-de-en", copy: str = "../wmt") -> Done:
    return call(root, "data", "fetch", name, "--from", copy, *more)


def test_a_sample_is_written_and_said(root: Path) -> None:
    done = fetched(root, "--sample", 20)
    content = (root / "data/wmt14_de_en_20.json").read_bytes()
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "✅ 20 records of 30 written: data/wmt14_de_en_20.json",
        f"   SHA-256: {hashlib.sha256(content).hexdigest()}",
        f"💾 Next: {NEXT} --set data_config.input_data_path=data/wmt14_de_en_20.json --set data_config.sample_size=20",
    ]
    found = json.loads(content)
    assert len(found) == 20
    assert all(pair["input"].removeprefix("Satz") == pair["reference"].removeprefix("Sentence") for pair in found)
    assert [path.name for path in (root / "data").iterdir()] == ["wmt14_de_en_20.json"]


def test_as_json_it_says_the_same(root: Path) -> None:
    done = fetched(root, "--sample", 4, "--json", "--seed", 7, name="cnn-dailymail", copy="../cnn")
    content = (root / "data/cnn_dailymail_4.json").read_bytes()
    assert json.loads(done.out) == {
        "dataset": "cnn-dailymail",
        "split": "test",
        "seed": 7,
        "path": "data/cnn_dailymail_4.json",
        "written": True,
        "n_records": 4,
        "n_available": COUNT - 1,
        "n_left_out": 1,
        "sha256": hashlib.sha256(content).hexdigest(),
        "next_command": "synthtrack perspectives configs/perspectives/summarization.json "
        "--set data_config.input_data_path=data/cnn_dailymail_4.json --set data_config.sample_size=4",
    }


def test_records_without_text_are_said(root: Path) -> None:
    assert (
        "   1 record without text left out\n" in fetched(root, "--sample", 4, name="cnn-dailymail", copy="../cnn").out
    )


def test_the_same_again_changes_nothing(root: Path) -> None:
    fetched(root, "--sample", 5)
    path = root / "data/wmt14_de_en_5.json"
    before = path.stat()
    again = fetched(root, "--sample", 5)
    assert again.code == 0
    assert again.out.startswith("⚡ There already, with the same 5 records: data/wmt14_de_en_5.json\n")
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert json.loads(fetched(root, "--sample", 5, "--json").out)["written"] is False


def test_another_file_stays_unless_forced(root: Path) -> None:
    fetched(root, "--sample", 5)
    path = root / "data/wmt14_de_en_5.json"
    before = path.read_bytes()
    done = fetched(root, "--sample", 5, "--seed", 1)
    assert (done.code, done.out, path.read_bytes()) == (5, "", before)
    assert "data/wmt14_de_en_5.json is there already, with other content" in done.err
    assert "--overwrite" in done.err
    assert fetched(root, "--sample", 5, "--seed", 1, "--overwrite").code == 0
    assert path.read_bytes() != before


def test_it_can_be_put_elsewhere(root: Path, tmp_path: Path) -> None:
    done = fetched(root, "--sample", 3, "--output", tmp_path / "deep/er it/x.json")
    assert (done.code, len(json.loads((tmp_path / "deep/er it/x.json").read_text()))) == (0, 3)
    words = shlex.split(done.out.splitlines()[-1])
    assert f"data_config.input_data_path={tmp_path}/deep/er it/x.json" in words


@pytest.mark.parametrize("output", [None, "x.json", "data/x.jsonl"])
@pytest.mark.parametrize(("name", "copy"), [("wmt14-de-en", "../wmt"), ("cnn-dailymail", "../cnn")])
def test_the_next_command_takes_what_was_written(name: str, copy: str, output: str | None, root: Path) -> None:
    done = fetched(root, "--sample", 7, *(["--output", output] if output else []), name=name, copy=copy)
    synthtrack, *following = shlex.split(done.out.splitlines()[-1].partition("Next: ")[2])
    assert (done.code, synthtrack) == (0, "synthtrack")
    shown = call(root, *following, "--dry-run")
    assert (shown.code, shown.err) == (0, "")
    assert "7 inputs" in shown.out


def test_json_lines_hold_the_same_pairs(root: Path) -> None:
    done = fetched(root, "--sample", 3, "--output", "x.jsonl", "--json")
    fetched(root, "--sample", 3)
    content = (root / "x.jsonl").read_bytes()
    assert [json.loads(line) for line in content.decode().splitlines()] == json.loads(
        (root / "data/wmt14_de_en_3.json").read_text()
    )
    assert json.loads(done.out)["sha256"] == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("output", ["x.csv", "x", "x.jsonl.gz", "x.parquet", "x.JSON", "data/"])
def test_another_suffix_is_refused_before_anything_is_read(output: str, root: Path) -> None:
    done = fetched(root, "--sample", 3, "--output", output, copy="../no such copy")
    assert (done.code, done.out) == (2, "")
    assert "must end in .json or .jsonl" in done.err
    assert not (root / "data").exists()


def test_without_the_ready_config_it_is_init_that_comes_next(tmp_path: Path, root: Path) -> None:
    (bare := tmp_path / "bare").mkdir()
    done = fetched(bare, "--sample", 3)
    assert (done.code, done.out.splitlines()[-1]) == (0, "💾 Next: synthtrack init")
    assert call(bare, "init").code == 0
    assert fetched(bare, "--sample", 3).out.splitlines()[-1].startswith(f"💾 Next: {NEXT} --set")


def test_a_hub_without_network_is_told_in_our_words_alone(root: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # not listening: whoever connects is refused
        done = from_the_hub(root, f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert (done.code, done.out) == (12, "")
    assert re.fullmatch(
        r"Reading wmt/wmt14 \(de-en, test\) from the hub \.\.\.\n"
        r"Error: The data set cannot be had from the hub\.\n"
        r"  wmt/wmt14 \(de-en\): \[Errno \d+\] Connection refused\n"
        r"Is there a network\? --from DIR reads a copy on the disk\.\n",
        done.err,
    )


def test_a_hub_that_is_down_is_asked_once(root: Path) -> None:
    with hub_that_is_down() as (address, asked):
        done = from_the_hub(root, address)
    assert (done.code, [path for path in asked if "wmt14" in path]) == (12, ["/api/datasets/wmt/wmt14"])
    assert "503" in done.err
    assert len(done.err.splitlines()) == 4


def test_a_sample_larger_than_the_data(root: Path) -> None:
    done = fetched(root)
    assert (done.code, done.out) == (12, "")
    assert "split 'test' has 30 records, not 500" in done.err
    assert not (root / "data").exists()


def test_a_place_that_cannot_be_written_is_explained(root: Path) -> None:
    (root / "file").write_text("")
    done = fetched(root, "--sample", 3, "--output", "file/x.json")
    assert done.code == 11
    assert "file/x.json cannot be written" in done.err


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("fetch", "wmt15", "--from", "."), "'wmt14-de-en', 'cnn-dailymail'"),
        (("fetch", "wmt14-de-en", "--sample", "0"), "--sample"),
        (("fetch", "wmt14-de-en", "--seed", "-1"), "--seed"),
        (("fetch",), "Missing argument"),
    ],
)
def test_a_call_that_is_wrong(arguments: tuple[str, ...], what: str, root: Path) -> None:
    done = call(root, "data", *arguments)
    assert (done.code, done.out) == (2, "")
    assert what in done.err
