"""Where the files of a model are: a directory, or a name on the Hugging Face hub. Needs huggingface_hub."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pipeline.training.scratch import SCRATCH
from tracker import clock
from tracker.errors import MissingKey, ProviderError, StorageError, TrainingFailed, UnknownReference
from tracker.fingerprint import Json, canonical_json

CONFIG = "config.json"
_WEIGHTS = ("model.safetensors", "model-*.safetensors", "pytorch_model.bin", "pytorch_model-*.bin")
# What else loading a model and its tokenizer reads.
_READ = (
    *(CONFIG, "generation_config.json", "*.index.json", "tokenizer*.json", "special_tokens_map.json"),
    *("added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "*.model", "*.tiktoken"),
)
_TEXTS = ("*.json", "*.model", "*.txt")
_TICK_S = 2.0
_LOCAL_WORKS = "A directory with the model's files works as well, without the hub."


@dataclass(frozen=True)
class Files:
    """The directory that holds a model's files (from the hub perhaps its config alone), and what identifies them."""

    directory: Path
    identity: Json
    revision: str | None = None


def locate(name: str, environ: Mapping[str, str], *, weights: bool) -> Files:
    """The files of the model ``name``: a directory, or ``owner/name`` or ``owner/name@revision`` of the hub.

    From the hub the config alone is fetched, or everything that loading needs if ``weights``; the commit is part of
    the identity. A directory's identity is the content of its config, weights and tokenizer.

    Raises:
        UnknownReference: there is neither such a directory nor such a model on the hub.
        MissingKey: the model is gated and there is no HF_TOKEN.
        ProviderError: the hub refuses, or cannot be reached and the model was never fetched.
        TrainingFailed: it is no model that transformers can load.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return Files(path.resolve(), {"directory": _content(path)})
    if path.exists():
        raise TrainingFailed(f"The model {name} is a file.", hint="Give the directory that holds it and its config.")
    return _of_hub(name, environ.get("HF_TOKEN", "").strip() or None, weights=weights)


def _content(directory: Path) -> str:
    if not (directory / CONFIG).is_file():
        adapter = " It holds a LoRA adapter alone." if (directory / "adapter_config.json").is_file() else ""
        raise TrainingFailed(
            f"The directory {directory} holds no {CONFIG}, so it is no model.{adapter}",
            hint="Give the directory that save_pretrained() wrote, or a snapshot of the hub.",
        )
    if not _holds_weights(directory):
        raise TrainingFailed(
            f"The directory {directory} holds no weights ({', '.join(_WEIGHTS)}).",
            hint="Copy the model's weights beside its config.",
        )
    try:
        read = {each for pattern in (*_READ, *_WEIGHTS) for each in directory.glob(pattern) if each.is_file()}
        digests = {each.name: _sha256(each) for each in sorted(read) if not each.name.startswith(".")}
    except OSError as error:
        raise StorageError(f"The model in {directory} cannot be read: {error.strerror}.") from error
    return hashlib.sha256(canonical_json(digests).encode()).hexdigest()


def _sha256(path: Path) -> str:
    status = path.stat()
    # A file that was changed just now may be changed again within the same tick of the clock that dates it.
    settled = clock.now().timestamp() - status.st_ctime > _TICK_S
    read = _sha256_once if settled else _sha256_of
    return read(path.resolve(), status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _sha256_of(path: Path, *_: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_sha256_once = lru_cache(maxsize=1024)(_sha256_of)
"""Weights are large, and one process asks for them several times."""


def _of_hub(name: str, token: str | None, *, weights: bool) -> Files:
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repo, _, asked = name.partition("@")
    try:
        directory = _fetched(repo, asked or "main", token, weights=weights)
    except HFValidationError as error:
        raise _unknown(
            name, "There is no such directory, and it is no name of the hub: those are owner/name."
        ) from error
    except GatedRepoError as error:
        raise _gated(repo, token) from error
    except RevisionNotFoundError as error:
        raise UnknownReference("revision", asked, hint=f"The hub has {repo}, but no such revision of it.") from error
    except RepositoryNotFoundError as error:
        private = "" if token else " If it is private or gated: export HF_TOKEN=... ."
        raise _unknown(
            name, f"There is no such directory, nor such a model on the Hugging Face hub.{private}"
        ) from error
    except RemoteEntryNotFoundError as error:
        raise TrainingFailed(
            f"The model {repo} on the hub has no {CONFIG}, so transformers cannot load it.",
            hint="Choose the repository that holds it in transformers' format.",
        ) from error
    except HfHubHTTPError as error:
        raise ProviderError(f"The Hugging Face hub refused {repo}: {_first_line(error)}", hint=_LOCAL_WORKS) from error
    except _unreachable() as error:
        raise ProviderError(
            f"There is no directory {name} here, and the Hugging Face hub cannot be reached to look for such a model.",
            hint=f"{_LOCAL_WORKS} scratch:llama-tiny needs no files at all.",
        ) from error
    except OSError as error:
        raise StorageError(f"The model {repo} could not be fetched from the hub: {_first_line(error)}") from error
    return Files(directory, {"hub": repo, "revision": directory.name}, directory.name)


def _fetched(repo: str, asked: str, token: str | None, *, weights: bool) -> Path:
    """The snapshot directory of a commit of ``repo``; of an unreachable hub, what was fetched earlier."""
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        # One request without retries: fetching a file from a hub that is not there takes half a minute to fail.
        info = HfApi().model_info(repo, revision=asked, token=token, timeout=10)
        config = hf_hub_download(repo, CONFIG, revision=asked, token=token)
    except HfHubHTTPError:
        raise
    except _unreachable():
        config = hf_hub_download(repo, CONFIG, revision=asked, local_files_only=True)
        if weights and not _holds_weights(Path(config).parent):
            raise LocalEntryNotFoundError(repo) from None
        return Path(config).parent
    if weights:
        safe = any(file.rfilename.endswith(".safetensors") for file in info.siblings or ())
        snapshot_download(
            repo,
            revision=Path(config).parent.name,
            token=token,
            allow_patterns=[*_TEXTS, *_WEIGHTS[: 2 if safe else 4]],
            ignore_patterns=["*/*"],
        )
    return Path(config).parent


def _unreachable() -> tuple[type[Exception], ...]:
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    # The first base of the hub's errors is what its HTTP client raises: httpx's or httpx2's, by its version. Where
    # Python itself keeps a process from the network, as in tests, it is a RuntimeError, which no client translates.
    http = next(base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception))
    return http, RuntimeError, OfflineModeIsEnabled, LocalEntryNotFoundError


def _holds_weights(directory: Path) -> bool:
    return any(found for pattern in _WEIGHTS for found in directory.glob(pattern))


def _unknown(name: str, hint: str) -> UnknownReference:
    return UnknownReference("model", name, SCRATCH, hint=hint)


def _gated(repo: str, token: str | None) -> Exception:
    page = f"https://huggingface.co/{repo}"
    if token is None:
        return MissingKey(
            f"The model {repo} is gated, and there is no token for the Hugging Face hub.",
            hint=f"Accept its licence on {page}, make a token there, then: export HF_TOKEN=... . {_LOCAL_WORKS}",
        )
    return ProviderError(
        f"The model {repo} is gated, and the account of HF_TOKEN has no access to it.",
        hint=f"Accept its licence on {page}. {_LOCAL_WORKS}",
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300]
