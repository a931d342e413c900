"""A look at the tree while others change it: what stays is always seen."""

from __future__ import annotations

import threading
from pathlib import Path

from tracker.views.tree import walk

N_LINKS, N_LOOKS = 300, 150


def test_links_that_come_and_go_hide_none_of_those_that_stay(tmp_path: Path) -> None:
    batch = tmp_path / "batch/Copa"
    batch.mkdir(parents=True)
    stay = {f"batch/Copa/{number:03}" for number in range(N_LINKS)}
    for path in stay:
        (tmp_path / path).symlink_to("nowhere")
    ended = threading.Event()

    def come_and_go() -> None:
        while not ended.is_set():
            for number in range(20):
                link = batch / f"fleeting{number}"
                link.symlink_to("nowhere")
                link.unlink()

    other = threading.Thread(target=come_and_go)
    other.start()
    try:
        seen = [walk(tmp_path, "batch", 2).keys() for _ in range(N_LOOKS)]
    finally:
        ended.set()
        other.join()
    assert all(stay <= each for each in seen)
