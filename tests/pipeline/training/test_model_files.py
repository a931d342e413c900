"""Where a model's files are: a directory by its content, the hub by its commit, and words where there is neither."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from pipeline.training import model_files
from pipeline.training.model_files import Files, locate
from tests.pipeline.training.hub import COMMIT, Hub, running_hub, set_endpoint
from tracker.errors import Error, MissingKey, ProviderError, StorageError, TrainingFailed, UnknownReference

UNREACHABLE = "There is no directory {} here, and the Hugging Face hub cannot be reached to look for such a model."


def directory(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text('{"model_type": "llama"}')
    (path / "model.safetensors").write_bytes(b"weights")
    (path / "tokenizer.json").write_text("{}")
    return path


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub(monkeypatch, tmp_path / "cache") as running:
        running.directories["them/model"] = directory(tmp_path / "hub")
        yield running


def located(name: str | Path, *, token: str = "", weights: bool = False) -> Files:
    return locate(str(name), {"HF_TOKEN": token}, weights=weights)


def refused(kind: type[Error], name: str | Path, *, token: str = "", weights: bool = False) -> Error:
    with pytest.raises(kind) as error:
        located(name, token=token, weights=weights)
    assert type(error.value) is kind
    return error.value


def test_a_directory_is_what_it_holds_wherever_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = directory(tmp_path / "one"), directory(tmp_path / "two")
    (second / ".cache").mkdir()
    (second / ".gitattributes").write_text("no part of the model")
    assert located(first) == Files(first, located(second).identity)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert located("~/two") == located(second)
    monkeypatch.chdir(tmp_path)
    assert located("one") == located(first)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_every_byte_and_name_that_loading_reads_counts(tmp_path: Path, name: str) -> None:
    found = directory(tmp_path / "model")
    before = located(found).identity
    (found / "added_tokens.json").write_text("{}")
    assert located(found).identity != before
    (found / "added_tokens.json").unlink()
    assert located(found).identity == before
    content = bytearray((found / name).read_bytes())
    content[-1] ^= 1
    (found / name).write_bytes(content)
    # As if some time had passed: clocks of file systems are coarse.
    os.utime(found / name, ns=(0, (found / name).stat().st_mtime_ns + 10**9))
    assert located(found).identity != before


@pytest.mark.parametrize("name", ["README.md", "LICENSE.txt", "trainer_state.json", "training_args.bin", "eval.json"])
def test_what_loading_does_not_read_is_no_part_of_a_model(tmp_path: Path, name: str) -> None:
    found = directory(tmp_path / "model")
    before = located(found).identity
    (found / name).write_text("{}")
    assert located(found).identity == before


def test_weights_are_read_once_while_nothing_changes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = directory(tmp_path / "model")
    monkeypatch.setattr(model_files, "_TICK_S", -1.0)
    before = located(found).identity
    n_read = model_files._sha256_once.cache_info().misses
    assert located(found).identity == before
    assert model_files._sha256_once.cache_info().misses == n_read
    beside = tmp_path / "other"
    beside.write_bytes(b"WEIGHTS")
    status = (found / "model.safetensors").stat()
    os.utime(beside, ns=(status.st_atime_ns, status.st_mtime_ns))
    beside.replace(found / "model.safetensors")
    assert located(found).identity != before


def test_what_is_no_directory_of_a_model(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert refused(TrainingFailed, tmp_path / "file").message == f"The model {tmp_path / 'file'} is a file."
    (tmp_path / "empty").mkdir()
    assert "holds no config.json, so it is no model." in refused(TrainingFailed, tmp_path / "empty").message
    (tmp_path / "empty" / "adapter_config.json").write_text("{}")
    assert refused(TrainingFailed, tmp_path / "empty").message.endswith("It holds a LoRA adapter alone.")
    found = directory(tmp_path / "model")
    (found / "model.safetensors").unlink()
    assert "holds no weights (model.safetensors, " in refused(TrainingFailed, found).message
    (found / "model-00001-of-00002.safetensors").write_bytes(b"weights")
    assert located(found).directory == found


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_directory_that_cannot_be_read(tmp_path: Path) -> None:
    found = directory(tmp_path / "model")
    (found / "model.safetensors").chmod(0)
    assert "cannot be read: Permission denied" in refused(StorageError, found).message


def test_the_hub_is_asked_for_the_config_alone_until_weights_are_wanted(hub: Hub) -> None:
    described = located("them/model")
    assert described.identity == {"hub": "them/model", "revision": COMMIT}
    assert {path.name for path in described.directory.iterdir()} == hub.files_asked() == {"config.json"}
    assert located("them/model", weights=True) == described
    wanted = {"config.json", "model.safetensors", "tokenizer.json"}
    assert {path.name for path in described.directory.iterdir()} == hub.files_asked() == wanted
    assert {token for _, token in hub.requests} == {None}


def test_of_two_formats_of_weights_one_is_fetched(hub: Hub) -> None:
    source = hub.directories["them/model"]
    (source / "pytorch_model.bin").write_bytes(b"the same again")
    (source / "original").mkdir()
    (source / "original" / "params.json").write_text("{}")
    located("them/model", weights=True)
    assert hub.files_asked() == {"config.json", "model.safetensors", "tokenizer.json"}
    (source / "model.safetensors").unlink()
    hub.directories["them/older"] = source
    assert (located("them/older", weights=True).directory / "pytorch_model.bin").is_file()


def test_a_revision_is_part_of_the_name(hub: Hub) -> None:
    assert located(f"them/model@{COMMIT}") == located("them/model@main") == located("them/model")
    error = refused(UnknownReference, "them/model@v9")
    assert "v9" in error.message
    assert error.hint == "The hub has them/model, but no such revision of it."


def test_the_token_is_the_environments(hub: Hub) -> None:
    located("them/model", token=" hf_secret\n", weights=True)
    assert {token for _, token in hub.requests} == {"hf_secret"}


def test_the_hub_has_no_such_model(hub: Hub) -> None:
    for name in ("them/nothing", "nothing"):
        error = refused(UnknownReference, name)
        assert name in error.message
        assert "There is no such directory, nor such a model on the Hugging Face hub." in str(error.hint)
        assert "HF_TOKEN" in str(error.hint)
    assert "HF_TOKEN" not in str(refused(UnknownReference, "them/nothing", token="hf_secret").hint)
    hub.requests.clear()
    for name in ("./models/mine", "a/b/c", "no name"):
        assert "it is no name of the hub" in str(refused(UnknownReference, name).hint)
    assert hub.requests == []


def test_a_gated_model_wants_a_token_and_a_licence(hub: Hub) -> None:
    hub.refusals["them/model"] = "gated"
    without = refused(MissingKey, "them/model")
    assert without.exit_code == 9
    assert without.message == "The model them/model is gated, and there is no token for the Hugging Face hub."
    assert "https://huggingface.co/them/model" in str(without.hint)
    given = refused(ProviderError, "them/model", token="hf_secret")
    assert given.message == "The model them/model is gated, and the account of HF_TOKEN has no access to it."
    assert "hf_secret" not in str(given)


def test_other_refusals_are_passed_on(hub: Hub) -> None:
    hub.refusals["them/model"] = "broken"
    error = refused(ProviderError, "them/model")
    assert error.message.startswith("The Hugging Face hub refused them/model: ")
    assert "500" in error.message
    del hub.refusals["them/model"]
    (hub.directories["them/model"] / "config.json").unlink()
    assert "has no config.json" in refused(TrainingFailed, "them/model").message


def offline(kind: str, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """``blocked``: by the tests' own block, whose error is no network's; the others as they come in life."""
    match kind:
        case "blocked":
            # An address for documentation: nobody has it, and it needs no DNS.
            set_endpoint(monkeypatch, "http://192.0.2.1", cache)
        case "refused":
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            set_endpoint(monkeypatch, f"http://127.0.0.1:{port}", cache)
        case "no such host":
            set_endpoint(monkeypatch, "http://hub.invalid", cache)
        case _:
            monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


BLOCKED = pytest.param("blocked", marks=pytest.mark.filterwarnings("ignore:A test tried to use socket"))
OFFLINE = [BLOCKED, "refused", "no such host", "switched off"]


@pytest.mark.parametrize("kind", OFFLINE)
def test_offline_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    offline(kind, monkeypatch, tmp_path / "cache")
    for weights in (False, True):
        error = refused(ProviderError, "them/model", weights=weights)
        assert error.message == UNREACHABLE.format("them/model")
        assert "A directory with the model's files works as well" in str(error.hint)


@pytest.mark.parametrize("kind", OFFLINE)
def test_offline_what_was_fetched_is_found(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    described = located("them/model")
    offline(kind, monkeypatch, tmp_path / "cache")
    assert located("them/model") == described
    assert refused(ProviderError, "them/model", weights=True).message == UNREACHABLE.format("them/model")


@pytest.mark.parametrize("kind", OFFLINE)
def test_offline_weights_that_were_fetched_are_found(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    fetched = located("them/model", weights=True)
    offline(kind, monkeypatch, tmp_path / "cache")
    assert located("them/model", weights=True) == fetched
