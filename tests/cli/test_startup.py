"""What a command loads is what a person waits for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pool_rows import populate
from tests.records import temperature_study
from tests.training_rows import Study, training_study
from tests.two_stage import OFFLINE, drafted
from tracker.paths import Workspace
from tracker.record.database import open_database

HEAVY = (
    "torch", "transformers", "mlflow", "datasets", "sqlalchemy", "sqlmodel", "pydantic", "pandas", "alembic", "openai",
    "together", "numpy", "matplotlib", "flask",
)  # fmt: skip
AGENTS = "configs/perspectives/translation_offline.yaml"
OF_AGENTS: tuple[list[str], ...] = (
    ["perspectives", "--help"],
    ["perspectives", "list", "--verbose"],
    ["perspectives", "show", "translation"],
    ["perspectives", "compare", "translation", "translation", "--tested", "0"],
)
OF_POOLS: tuple[list[str], ...] = (
    ["pool", "--help"],
    ["pool", "list", "--verbose"],
    ["pool", "show", "exp1"],
    ["pool", "stats", "exp1"],
    ["pool", "compare", "exp1", "exp2", "--json"],
)
LOADED = f"""
import sys
from cli.main import run
code = run(sys.argv[1:]) if len(sys.argv) > 1 else 0
print(code, sorted(set(sys.modules) & set({HEAVY!r})), file=sys.stderr)
"""
COMMANDS: tuple[list[str], ...] = (
    [],
    ["--help"],
    ["batch", "list", "--verbose"],
    ["batch", "show", "batch_20241229_temperature", "--verbose"],
    ["experiment", "list"],
    ["experiment", "show", "Copa/temp07_topp10_gpt4o"],
    ["experiment", "compare", "Copa/temp07_topp10_gpt4o", "Copa/temp05_topp10_gpt4o"],
    ["path", "list"],
    ["path", "list", "--format", "table"],
    ["publish", "list"],
    ["sql", "SELECT * FROM batch_cost"],
    ["sql", "SELECT * FROM experiment_setting", "--json"],
    ["sql", "--schema"],
    ["path", "resolve", "Data_v2/synthetic/_shared/Copa/temp07_topp10_gpt4o"],
)
NEEDLESS = (
    "hashlib", "socket", "ssl", "difflib", "subprocess", "logging", "asyncio", "filelock", "yaml",
    "tracker.deleting.deletion", "tracker.record.sweeps",
)  # fmt: skip
"""What costs a listing whose tree is up to date some hundredths of a second, and has no part in it."""
OF_RESULTS: tuple[list[str], ...] = (
    ["result", "list"],
    ["result", "list", "--detail"],
    ["result", "show", "temp05 1e-06 seed 0"],
    ["result", "compare", "temp05 1e-06 seed 0", "temp09 1e-06 seed 0"],
    ["result", "best", "--task", "Copa", "--by", "generation.temperature"],
    ["training", "status"],
)


def start(root: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("SYNTHTRACK_", "LC_"))}
    return subprocess.run(
        [sys.executable, "-c", LOADED, *arguments],
        env={**variables, "PYTHONPATH": str(Path(__file__).parents[2]), "SYNTHTRACK_ROOT": str(root), **environ},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = temperature_study(tmp_path_factory.mktemp("study")).root
    # Writing the tree may load what it likes; looking at one that is up to date may not.
    start(found, "experiment", "list")
    return found


@pytest.fixture(scope="module")
def staged_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drafted(tmp_path_factory.mktemp("staged"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return training_study(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def agents_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("agents")
    for arguments in (["init", str(found)], ["perspectives", str(found / AGENTS), "--no-mlflow"]):
        assert start(found, *arguments).stderr.startswith("0 ")
    return found


@pytest.fixture(scope="module")
def pools_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return populate(Workspace(tmp_path_factory.mktemp("pools") / "workspace", environ={})).root


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_looking_loads_nothing_heavy(root: Path, arguments: list[str]) -> None:
    assert start(root, *arguments).stderr == "0 []\n"


@pytest.mark.parametrize("arguments", [["--help"], ["batch", "list"], COMMANDS[-1]], ids=" ".join)
def test_what_is_asked_most_loads_nothing_needless(root: Path, arguments: list[str]) -> None:
    program = LOADED.replace(repr(HEAVY), repr(NEEDLESS))
    # What measures coverage loads modules of its own.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    environ = {**kept, "PYTHONPATH": str(Path(__file__).parents[2]), "SYNTHTRACK_ROOT": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=environ, capture_output=True, encoding="utf-8", check=True,
    )  # fmt: skip
    assert done.stderr == "0 []\n"


@pytest.mark.parametrize("arguments", [["experiment", "show"], ["judge-test", "--list"], ["annotations", "export"]])
def test_looking_at_a_checkpoint_loads_nothing_heavy(staged_root: Path, arguments: list[str]) -> None:
    assert start(staged_root, *arguments, OFFLINE).stderr == "0 []\n"


@pytest.mark.parametrize("arguments", OF_RESULTS, ids=" ".join)
def test_looking_at_trainings_loads_nothing_heavy(trained: Study, arguments: list[str]) -> None:
    uuids = {name: trained.uuid(name) for name in trained.runs}
    chosen = [uuids.get(argument, argument) for argument in arguments]
    assert start(trained.workspace.root, *chosen).stderr == "0 []\n"


@pytest.mark.parametrize("arguments", OF_AGENTS, ids=" ".join)
def test_looking_at_agent_data_sets_loads_nothing_heavy(agents_root: Path, arguments: list[str]) -> None:
    assert start(agents_root, *arguments).stderr == "0 []\n"


@pytest.mark.parametrize("arguments", OF_POOLS, ids=" ".join)
def test_looking_at_pools_loads_nothing_heavy(pools_root: Path, arguments: list[str]) -> None:
    assert start(pools_root, *arguments).stderr == "0 []\n"


def test_verifying_a_pool_loads_nothing_heavy(pools_root: Path) -> None:
    assert start(pools_root, "verify", "exp1").stderr == "0 []\n"


def test_verifying_loads_nothing_heavy_before_it_looks_at_data(tmp_path: Path) -> None:
    open_database(Workspace(tmp_path, environ={})).close()
    assert start(tmp_path, "verify").stderr == "0 []\n"


def test_the_probe_sees_what_is_loaded(root: Path) -> None:
    probe = LOADED.replace("from cli.main import run", "import sqlmodel\nfrom cli.main import run")
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", probe], env=environ, capture_output=True, text=True, check=True)
    assert done.stderr == "0 ['pydantic', 'sqlalchemy', 'sqlmodel']\n"


@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "POSIX"])
def test_symbols_survive_any_locale(root: Path, locale: str) -> None:
    done = start(root, "batch", "list", LC_ALL=locale)
    assert "📦 batch_20241228_pilot" in done.stdout
