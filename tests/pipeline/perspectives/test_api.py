"""The pipeline as a class: in any event loop, with the path of a file in the end, whatever happens in between."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

import pipeline
from pipeline import DataGenerationPipeline
from pipeline.perspectives.job import Options
from tests.llm_server import Server, running_server
from tests.perspectives import (
    answered_twice,
    content,
    document,
    files,
    new_root,
    offline,
    pairs,
    received,
    served,
    tasks,
    write_config,
)
from tests.workspaces import REPOSITORY, call, rows
from tracker.errors import ConfigError, Conflict, DataError, MissingKey, PartialResult, ProviderError

COUNT = 6
Made = TypeVar("Made")


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> str:
    # MLflow takes seconds to make a database, so there is one for all.
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def root(tmp_path: Path, mlflow: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPENAI_API_KEY", "test-key")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow)
    return new_root(tmp_path, COUNT)


def runs(root: Path) -> list[tuple[str, str]]:
    return [(outcome, status) for outcome, status in rows(root, "SELECT outcome, status FROM agent_run ORDER BY id")]


async def until(happened: Callable[[], bool], task: asyncio.Task[Any]) -> None:
    while not happened() and not task.done():  # noqa: ASYNC110  what a server receives sets no event
        await asyncio.sleep(0.01)


async def alone(make: Callable[[], Awaitable[Made]]) -> Made:
    return await make()


async def in_a_task_beside_others(make: Callable[[], Awaitable[Made]]) -> Made:
    """As in a notebook, whose loop runs other things too."""
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            beats += 1
            await asyncio.sleep(0.005)

    other = asyncio.create_task(beat())
    try:
        return await asyncio.create_task(alone(make))
    finally:
        other.cancel()
        assert beats > 2


@pytest.mark.parametrize("way", [alone, in_a_task_beside_others])
def test_the_path_is_given_within_a_running_loop_and_nothing_is_paid_twice(root: Path, way: Any) -> None:
    with running_server(latency=0.02) as server:
        config = served(server.base_url)
        before = json.dumps(config)
        found = asyncio.run(way(DataGenerationPipeline(config, root).generate_dataset))
        assert found == str(files(root)[0])
        assert content(Path(found))["tasks"] == tasks(pairs(COUNT))
        # Twice on one object, and on another one.
        own = DataGenerationPipeline(config, str(root))
        assert [asyncio.run(way(own.generate_dataset)) for _ in range(2)] == [found, found]
        assert received(server) == 4 * COUNT
        assert json.dumps(config) == before
    assert runs(root) == [("made", "complete"), ("reused", "complete"), ("reused", "complete")]
    assert rows(root, "SELECT command, config_path FROM agent_run LIMIT 1") == [("DataGenerationPipeline", None)]


def test_each_call_is_logged_to_mlflow(root: Path) -> None:
    asyncio.run(DataGenerationPipeline(offline(task_type="logged"), root).generate_dataset())
    assert rows(root, "SELECT logged_at IS NULL FROM mlflow_outbox") == [(0,)]
    [(fingerprint,)] = rows(root, "SELECT fingerprint FROM agent_dataset")
    from mlflow import MlflowClient

    client = MlflowClient()
    experiments = [each.experiment_id for each in client.search_experiments()]
    found = client.search_runs(experiments)
    assert sum(fingerprint in str(run.data.to_dictionary()) for run in found) == 1


def test_mlflow_that_cannot_be_reached_loses_no_path(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.warns(UserWarning, match="synthtrack mlflow sync"):
        found = asyncio.run(DataGenerationPipeline(offline(), root).generate_dataset())
    assert found == str(files(root)[0])
    assert rows(root, "SELECT logged_at IS NULL FROM mlflow_outbox") == [(1,)]


def test_a_log_that_cannot_be_written_loses_no_path(root: Path) -> None:
    (root / ".mlflow.lock").mkdir()
    with pytest.warns(UserWarning, match="synthtrack mlflow sync"):
        found = asyncio.run(DataGenerationPipeline(offline(), root).generate_dataset())
    assert found == str(files(root)[0])


def test_the_workspace_is_found_from_the_current_directory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SYNTHTRACK_ROOT", raising=False)
    assert call(root, "init", root).code == 0
    (root / "deep/down").mkdir(parents=True)
    monkeypatch.chdir(root / "deep/down")
    found = asyncio.run(DataGenerationPipeline(offline()).generate_dataset())
    assert Path(found).resolve().parent == (root / "data/agents").resolve()


def test_a_new_workspace_is_named_before_it_is_made(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SYNTHTRACK_ROOT", "SYNTHTRACK_DB_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(root)
    own = DataGenerationPipeline(offline())
    with pytest.warns(UserWarning, match=re.escape(f"a new one is made in {root.resolve()};")):
        found = asyncio.run(own.generate_dataset())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert asyncio.run(own.generate_dataset()) == found


def test_a_config_of_another_workspace_is_not_made_here(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SYNTHTRACK_ROOT", "SYNTHTRACK_DB_URL"):
        monkeypatch.delenv(name, raising=False)
    assert call(root, "init", root).code == 0
    elsewhere = root.parent / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    path = write_config(root, offline(data_config__input_data_path=str(root / "inputs.json")))
    with pytest.raises(ConfigError, match="lies in another one") as caught:
        asyncio.run(DataGenerationPipeline(path).generate_dataset())
    assert f"root={str(root.resolve())!r}" in str(caught.value)
    assert list(elsewhere.iterdir()) == []
    assert asyncio.run(DataGenerationPipeline(path, root=".").generate_dataset()) == str(files(elsewhere)[0])


@pytest.mark.parametrize("config", [None, [1], 7, b"config.json"])
def test_what_is_no_config_is_refused_in_words(config: Any) -> None:
    with pytest.raises(ConfigError, match=f"expected a dictionary or the path of a file, not {type(config).__name__}"):
        DataGenerationPipeline(config)


@pytest.mark.parametrize("cap", [-1, float("nan"), float("inf")])
def test_a_cap_that_is_none_is_refused(cap: float) -> None:
    with pytest.raises(ConfigError, match="expected US dollars, 0 or more, not "):
        Options(max_cost=cap)


def test_a_dictionary_may_hold_paths(root: Path) -> None:
    config = offline(data_config__input_data_path=None)
    config["data_config"]["input_data_path"] = root / "inputs.json"
    found = asyncio.run(DataGenerationPipeline(config, root).generate_dataset())
    assert content(Path(found))["metadata"]["data_config"]["input_data_path"] == str(root / "inputs.json")


def test_a_run_with_options_is_recorded_as_one_of_the_class(root: Path) -> None:
    asyncio.run(DataGenerationPipeline(offline(), root, Options(wait=True)).generate_dataset())
    assert rows(root, "SELECT command FROM agent_run") == [("DataGenerationPipeline",)]


def test_command_line_and_class_share_what_they_made(root: Path) -> None:
    found = asyncio.run(DataGenerationPipeline(offline(), root).generate_dataset())
    write_config(root, offline())
    done = call(root, "perspectives", "config.json", "--no-mlflow")
    assert done.out.startswith(f"⚡ {Path(found).stem}: already made")


@pytest.mark.parametrize(
    ("config", "error", "words"),
    [
        ({}, ConfigError, "missing key `task_type`"),
        (document(sampel=1), ConfigError, "the config: unknown key `sampel`"),
        (document(agent_perspectives=[]), ConfigError, "holds no perspective"),
        (document(task_description="\ud800"), ConfigError, "task_description"),
        (document(task_description="a\0b"), ConfigError, "task_description"),
        (document(model_config__temperature=float("nan")), ConfigError, "finite"),
        (document(data_config__sample_size=99), DataError, "is 99, and there are 6 inputs"),
        (document(data_config__input_data_path="none.json"), DataError, "no such file"),
        (document(model_config__api_key_env="NOT_SET"), MissingKey, "NOT_SET"),
    ],
    ids=["empty", "unknown", "none", "surrogate", "NUL", "NaN", "too few", "no file", "no key"],
)
def test_what_is_wrong_is_raised_before_anything_is_written(
    root: Path, config: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as caught:
        asyncio.run(DataGenerationPipeline(config, root).generate_dataset())
    assert words in str(caught.value)
    assert not (root / "tracker.db").exists()


def test_what_the_endpoint_refuses_is_raised(root: Path) -> None:
    with running_server() as server:
        config = served(server.base_url, model_config__model_name="no-such-model", api_provider="openai")
        with pytest.raises(ProviderError, match="cannot be used"):
            asyncio.run(DataGenerationPipeline(config, root).generate_dataset())
    assert runs(root) == [("made", "failed")]


def test_what_fails_for_good_is_raised_unless_it_is_accepted(root: Path) -> None:
    with running_server(poison="Haus 003") as server:
        config = served(server.base_url, model_config__max_retries=0)
        with pytest.raises(PartialResult, match=r"3 of 18 responses still fail .*something broke"):
            asyncio.run(DataGenerationPipeline(config, root).generate_dataset())
        assert files(root) == []
        accepting = DataGenerationPipeline(config, root, Options(accept_partial=True))
        found = asyncio.run(accepting.generate_dataset())
        assert content(Path(found))["tasks"][3]["responses"] == [None] * 3
        with pytest.raises(PartialResult, match="Its file stands, with null for what failed") as caught:
            asyncio.run(DataGenerationPipeline(config, root).generate_dataset())
        assert str(caught.value.hint).endswith("or pass Options(accept_partial=True) to be given its path.")


def test_a_cancelled_run_is_interrupted_and_goes_on_later(root: Path) -> None:
    async def cancelled(server: Server, config: dict[str, Any]) -> None:
        task = asyncio.create_task(DataGenerationPipeline(config, root).generate_dataset())
        await until(lambda: received(server) > 2, task)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with running_server(latency=0.1) as server:
        config = served(server.base_url, model_config__concurrency=2)
        asyncio.run(cancelled(server, config))
        assert runs(root) == [("made", "interrupted")]
        assert rows(root, "SELECT lease_pid FROM agent_dataset") == [(None,)]
        found = asyncio.run(DataGenerationPipeline(config, root).generate_dataset())
        # Only what was in flight when it was cancelled is asked again.
        assert answered_twice(server) <= 2
        assert received(server) <= 4 * COUNT + 2
    assert runs(root) == [("made", "interrupted"), ("resumed", "complete")]
    assert content(Path(found))["tasks"] == tasks(pairs(COUNT))


@pytest.mark.parametrize("beats", range(0, 40, 4))
def test_cancelled_at_any_moment_it_holds_nothing(root: Path, beats: int) -> None:
    async def cancelled() -> None:
        task = asyncio.create_task(DataGenerationPipeline(offline(), root).generate_dataset())
        for _ in range(beats):
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(cancelled())
    if (root / "tracker.db").exists():
        assert rows(root, "SELECT count(*) FROM agent_run WHERE status = 'running'") == [(0,)]
        assert rows(root, "SELECT count(*) FROM agent_dataset WHERE lease_pid IS NOT NULL") == [(0,)]


@pytest.mark.parametrize("wait", [False, True])
def test_one_config_twice_at_once_in_one_process_is_made_once(root: Path, wait: bool) -> None:
    async def twice(config: dict[str, Any]) -> list[str | BaseException]:
        both = [DataGenerationPipeline(config, root, Options(wait=wait)) for _ in range(2)]
        return await asyncio.gather(*(each.generate_dataset() for each in both), return_exceptions=True)

    with running_server(latency=0.1) as server:
        found = asyncio.run(twice(served(server.base_url)))
        assert received(server) == 4 * COUNT
    path = str(files(root)[0])
    if wait:
        assert found == [path, path]
    else:
        assert path in found
        [refused] = [each for each in found if isinstance(each, BaseException)]
        assert isinstance(refused, Conflict)
        assert "is being made now by another task of this process since " in str(refused)
        assert "Pass Options(wait=True)" in str(refused)
        assert "--" not in str(refused)


def test_two_configs_at_once_in_one_loop_are_both_made(root: Path) -> None:
    async def both(server: Server) -> list[str]:
        configs = [served(server.base_url, task_type=name) for name in ("one", "two")]
        return list(await asyncio.gather(*(DataGenerationPipeline(each, root).generate_dataset() for each in configs)))

    with running_server(latency=0.02) as server:
        found = asyncio.run(both(server))
    assert [Path(path).name[:3] for path in found] == ["one", "two"]
    assert all(content(Path(path))["tasks"] == tasks(pairs(COUNT)) for path in found)


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import pipeline, sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    heavy = {
        "mlflow",
        "openai",
        "together",
        "sqlalchemy",
        "sqlmodel",
        "pydantic",
        "numpy",
        "pandas",
        "yaml",
        "sacrebleu",
    }
    assert not heavy & set(done.stdout.split())
    assert "tracker" not in done.stdout


def test_the_package_has_the_class_and_nothing_that_is_not_there() -> None:
    assert {name: getattr(pipeline, name).__name__ for name in pipeline.__all__} == {
        name: name for name in pipeline.__all__
    }
    assert "DataGenerationPipeline" in pipeline.__all__
    with pytest.raises(AttributeError, match="has no attribute 'DataGeneratorPipeline'"):
        _ = pipeline.DataGeneratorPipeline
