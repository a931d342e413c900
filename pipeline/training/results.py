"""The files of a result directory: each written whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.training import places
from tracker.durable import sync_path
from tracker.errors import StorageError
from tracker.fingerprint import Json
from tracker.yaml_text import to_yaml

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipeline.training.evaluate import Prediction


def write_config(directory: Path, settings: Mapping[str, Json]) -> None:
    """``experiment_config.yaml``. Raises StorageError."""
    write_whole(directory / places.CONFIG, to_yaml(settings))


def write_metrics(directory: Path, metrics: Mapping[str, Json]) -> None:
    """``metrics.json``. Raises StorageError."""
    write_whole(directory / places.METRICS, json.dumps(metrics, indent=2, ensure_ascii=False) + "\n")


def write_predictions(directory: Path, predictions: Iterable[Prediction]) -> None:
    """``predictions.jsonl``: one line for each record that was measured. Raises StorageError."""
    lines = (json.dumps(vars(each) | {"correct": each.label == each.predicted}) for each in predictions)
    write_whole(directory / places.PREDICTIONS, "".join(f"{line}\n" for line in lines))


def write_model(
    directory: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, base: str | None = None
) -> None:
    """``model/``: the weights (of LoRA the adapter alone) and the tokenizer, as ``from_pretrained`` reads them.

    ``base`` is what an adapter is said to belong to. Raises StorageError.
    """
    from safetensors import SafetensorError

    final = directory / places.MODEL
    beside = final.with_name(f".{final.name}")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        adapters = getattr(model, "peft_config", {}).values()
        for adapter in adapters:
            adapter.base_model_name_or_path = base
        # peft would ask the hub whether the vocabulary has grown.
        own: dict[str, Any] = {"save_embedding_layers": False} if adapters else {}
        model.save_pretrained(beside, **own)
        tokenizer.save_pretrained(beside)
        for path in (*beside.iterdir(), beside):
            sync_path(path)
        shutil.rmtree(final, ignore_errors=True)
        beside.rename(final)
        sync_path(directory)
    # safetensors has an error of its own for a full disk.
    except (OSError, SafetensorError) as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise StorageError(
            f"{final} cannot be written: {getattr(error, 'strerror', None) or error}.",
            hint="Free some disk space, or set save_model: false; the run resumes at its last step.",
        ) from error


def write_whole(path: Path, text: str) -> None:
    """Puts ``text`` into ``path``, synced, so that a reader finds the old file or the new one. Raises StorageError."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise StorageError(f"{path} cannot be written: {error.strerror}.") from error
