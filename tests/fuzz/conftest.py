"""The cages of this worker process."""

from __future__ import annotations

import pytest

from tests.fuzz.cage import Cage

COMMANDS = (
    "init",
    "generate configs/stage1/copa_offline.yaml --no-mlflow",
    "generate configs/stage1/copa_two_stage_offline.yaml --no-mlflow",
    "review Copa/temp06_topp10_rulesv1 --approve-all",
    "generate configs/stage1/copa_two_stage_offline.yaml --no-mlflow",
    "perspectives configs/perspectives/translation_offline.yaml --no-mlflow",
    "pool preprocess --config configs/pools/data_config_sample.yaml",
    "pool build sample --no-mlflow",
    "publish Copa/temp07_topp10_rulesv1 --target published",
)


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Cage:
    """A workspace with one of everything that needs neither a network nor a model."""
    cage = Cage(tmp_path_factory.mktemp("cage") / "filled")
    for command in COMMANDS:
        done = cage.call(*command.split())
        assert done.code == 0, done.err
    cage.keep()
    return cage


@pytest.fixture
def cage(filled: Cage) -> Cage:
    filled.renew()
    return filled
