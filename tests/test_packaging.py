"""The wheel and the source distribution hold what they should, and the wheel works where there is no checkout."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.workspaces import REPOSITORY, environment

PACKAGES = ("tracker", "pipeline", "cli", "configs")
DATA = (".yaml", ".yml", ".json", ".jsonl", ".md", ".html", ".css", ".typed")


def build(what: str, source: Path, target: Path) -> Path:
    """The file that hatchling makes of ``source``."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", what, "--directory", str(target)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (made,) = target.iterdir()
    return made


def tracked() -> list[str]:
    if not (REPOSITORY / ".git").exists():
        pytest.skip("what belongs to the project is asked of git, and this is no clone")
    found = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    return [name for name in found.stdout.split("\0") if name and (REPOSITORY / name).exists()]


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", REPOSITORY, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, unpacked."""
    made = build("sdist", REPOSITORY, tmp_path_factory.mktemp("sdist"))
    place = tmp_path_factory.mktemp("source")
    with tarfile.open(made) as archive:
        archive.extractall(place)
    (unpacked,) = place.iterdir()
    return unpacked


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that holds what installing the wheel puts into site-packages."""
    place = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    return place


def test_the_wheel_holds_the_packages_with_their_data_and_nothing_else(wheel: Path) -> None:
    wanted = {name for name in tracked() if name.startswith(tuple(f"{each}/" for each in PACKAGES))}
    found = {name for name in names(wheel) if ".dist-info/" not in name}
    assert wanted <= found
    assert {name.split("/")[0] for name in found} == set(PACKAGES)
    assert any(name.startswith("configs/") and name.endswith(DATA) for name in wanted)


def test_the_source_distribution_holds_what_is_needed_to_test_and_build(
    sdist: Path, wheel: Path, tmp_path: Path
) -> None:
    left_out = {name for name in tracked() if not (sdist / name).exists()}
    assert {name.split("/")[0] for name in left_out} <= {"mlruns"}
    assert names(build("wheel", sdist, tmp_path / "wheel")) == names(wheel)


def test_the_installed_package_makes_a_workspace_and_generates(installed: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        # -P and this path alone: nothing of the checkout can be imported.
        code = "import sys; import cli.main; sys.exit(cli.main.main())"
        environ = environment({"PYTHONPATH": str(installed), "SYNTHTRACK_ROOT": None})
        command = [sys.executable, "-P", "-c", code, *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("init", "study")
    root = ("--root", str(tmp_path / "study"))
    run(*root, "generate", "configs/stage1/copa_offline.yaml", "--batch", "first", "--no-mlflow")
    shown = run(*root, "path", "list", "--batch", "first")
    assert "_shared/Copa/" in shown
    run(*root, "pool", "preprocess", "--config", "study/configs/pools/data_config_sample.yaml")
    assert run(*root, "report", "first", "--output", "-").startswith("<!doctype html>")
    shipped = {path.relative_to(installed / "configs") for path in (installed / "configs").rglob("*.yaml")}
    made = {path.relative_to(tmp_path / "study/configs") for path in (tmp_path / "study/configs").rglob("*.yaml")}
    assert made == shipped
    assert [path.name for path in tmp_path.iterdir()] == ["study"]
