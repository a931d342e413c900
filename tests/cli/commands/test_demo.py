"""``synthtrack demo``: a tour that ends well, and that stays within its directory whatever the environment says."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.main import run


def test_the_tour_ends_well_and_touches_nothing_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("years of work", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SYNTHTRACK_SYNTHETIC_DIR", str(mine))
    monkeypatch.setenv("SYNTHTRACK_DB_URL", "postgresql://nobody@127.0.0.1:9/nothing")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{mine}/mlflow.db")
    assert run(["demo"]) == 0
    out = capsys.readouterr().out
    assert "Data reuse: Yes (original batch: batch_first)" in out
    assert "Data_v2/synthetic is what the database says." in out
    assert "gave the best model" in out
    assert len(list((tmp_path / "demo/Results_v2").rglob("metrics.json"))) == 4
    assert [path.name for path in mine.iterdir()] == ["notes.txt"]
    assert (tmp_path / "demo/mlruns/mlflow.db").exists()
    assert (tmp_path / "demo/Data_v2/synthetic/batch_second/Copa/temp09_topp10_rulesv1").is_symlink()


def test_a_directory_with_something_in_it_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").touch()
    assert run(["demo", str(tmp_path)]) == 5
    assert "is not empty" in capsys.readouterr().err


def test_a_file_is_no_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert run(["demo", str(tmp_path / "file")]) == 11
    assert "cannot be used" in capsys.readouterr().err
