"""The models that are trained: what they are, and themselves with their tokenizers. Needs torch, transformers, peft."""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

from pipeline.training import scratch
from pipeline.training.memory import estimate_memory, free_memory, out_of_memory, require_memory
from pipeline.training.model_files import Files, locate
from tracker.errors import TrainingFailed, Unsupported
from tracker.fingerprint import Json

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Loaded", "ModelInfo", "describe", "estimate_memory", "free_memory", "load", "with_lora"]

_PACKAGES = ("torch", "transformers", "peft", "accelerate")
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, RuntimeError, EOFError)


@dataclass(frozen=True)
class ModelInfo:
    """What is known of a model without its weights; ``identity`` goes into the training fingerprint.

    ``context`` is the most positions, None where unlimited; ``linear_width`` the sum of inputs and outputs of all
    linear layers that LoRA adapts, so that LoRA of a rank has so many parameters times the rank.
    """

    name: str
    n_parameters: int
    n_layers: int
    hidden: int
    vocab: int
    context: int | None
    linear_width: int
    identity: Json


@dataclass(frozen=True)
class Loaded:
    """A model, with parameters in fp32 and in evaluation mode, and how a text becomes its token ids.

    ``tokenize`` puts in front what the tokenizer puts there, and no end token; ``eos`` is the end token, if any.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    tokenize: Callable[[str], list[int]]
    eos: int | None
    context: int | None


def require_packages() -> None:
    """Raises Unsupported, with what to install, unless everything that training needs is installed."""
    missing = [package for package in _PACKAGES if find_spec(package) is None]
    if missing:
        raise Unsupported(
            f"Training needs {', '.join(missing)}, not installed here.", hint="pip install 'synthtrack[train]'"
        )


def quiet() -> None:
    """Keep the libraries from writing to the terminal and from sending telemetry, in this process and its children."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import huggingface_hub
    from transformers.utils import logging as untyped

    logging: Any = untyped
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    huggingface_hub.logging.set_verbosity(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(torch|transformers|peft|accelerate|huggingface_hub)\b")


def describe(name: str, *, environ: Mapping[str, str]) -> ModelInfo:
    """What the model ``name`` is, its weights neither fetched nor read but for the digest of a directory.

    Raises Unsupported where packages are missing or the model is no causal language model of this transformers, and
    what ``model_files.locate`` raises.
    """
    require_packages()
    quiet()
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    config, identity = _config(name, environ)
    with _readable(name):
        model: Any = _without_weights(config)
    head = model.get_output_embeddings()
    adapted = [each for each in model.modules() if isinstance(each, nn.Linear | Conv1D) and each is not head]
    text = config.get_text_config()
    return ModelInfo(
        name=name,
        n_parameters=_n_parameters(model),
        n_layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        vocab=text.vocab_size,
        context=_context(config),
        linear_width=sum(sum(each.weight.shape) for each in adapted),
        identity=identity,
    )


def load(name: str, *, device: str, precision: str, seed: int, environ: Mapping[str, str]) -> Loaded:
    """The model ``name`` on ``device``, to compute in ``precision``; ``seed`` initialises a scratch model.

    Raises:
        Unsupported: the device or its precision is not to be had here.
        TrainingFailed: its weights or its tokenizer cannot be read.
        Error: whatever ``describe`` raises.
    """
    require_packages()
    quiet()
    _check_device(device, precision)
    if name.startswith(scratch.PREFIX):
        config: PreTrainedConfig = scratch.config(name)
        with _seeded(seed):
            model: Any = _causal(config)
        tokenizer = scratch.tokenizer()
    else:
        files = locate(name, environ, weights=True)
        config = _read_config(name, files)
        _check_causal(name, config)
        with _readable(name), out_of_memory("load"):
            require_memory(4 * _n_parameters(_without_weights(config)), device=device, method="load")
            model, tokenizer = _weights(name, files), _tokenizer(name, files)
    end = tokenizer.eos_token_id
    eos = end if isinstance(end, int) else None
    with out_of_memory("load"):
        model = model.to(device).eval()
    return Loaded(
        model=model,
        tokenizer=tokenizer,
        tokenize=_tokenize(name, tokenizer, eos, known=model.get_input_embeddings().num_embeddings),
        eos=eos,
        context=_context(config),
    )


def with_lora(model: PreTrainedModel, *, rank: int, alpha: float, seed: int) -> PreTrainedModel:
    """``model`` with LoRA matrices on all linear layers but the head: they alone are trained, scaled by alpha / rank.

    The matrices' first values come from ``seed``; at first the model computes what it did. Raises Unsupported for a
    model whose layers peft cannot adapt.
    """
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=cast("int", alpha),  # a float works, and is kept: peft only divides by it
        lora_dropout=0.0,
        target_modules="all-linear",
    )
    try:
        with _seeded(seed):
            adapted = get_peft_model(model, settings)
    except ValueError as error:
        raise Unsupported(
            f"LoRA cannot adapt this model: {_first_line(error)}", hint="Use method fo_full or zo."
        ) from error
    return cast("PreTrainedModel", adapted.eval())


def _config(name: str, environ: Mapping[str, str]) -> tuple[PreTrainedConfig, Json]:
    if name.startswith(scratch.PREFIX):
        return scratch.config(name), scratch.identity(name)
    files = locate(name, environ, weights=False)
    config = _read_config(name, files)
    _check_causal(name, config)
    return config, files.identity


def _read_config(name: str, files: Files) -> PreTrainedConfig:
    from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig
    from transformers import __version__ as version

    with _readable(name):
        kind = PreTrainedConfig.get_config_dict(files.directory)[0].get("model_type")
        if kind not in CONFIG_MAPPING:
            raise Unsupported(
                f"The architecture of {name}, {kind or 'unnamed'}, is unknown to transformers {version}.",
                hint="A newer transformers may know it; code that comes with a model is not run.",
            )
        return cast("PreTrainedConfig", AutoConfig.from_pretrained(files.directory, trust_remote_code=False))


def _check_causal(name: str, config: PreTrainedConfig) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL

    # One type of model has several heads: BERT's masked head sees what follows, a classifier's is no language model.
    heads = config.architectures or [CAUSAL.get(config.model_type, config.model_type)]
    if not set(heads) & set(CAUSAL.values()) or config.is_encoder_decoder:
        raise Unsupported(
            f"The model {name} is no causal language model but {', '.join(heads)}.",
            hint="Choose a model that writes text from left to right, such as a Llama.",
        )


def _causal(config: PreTrainedConfig) -> PreTrainedModel:
    import torch
    import transformers

    auto: Any = transformers.AutoModelForCausalLM
    return cast("PreTrainedModel", auto.from_config(config, dtype=torch.float32))


def _without_weights(config: PreTrainedConfig) -> PreTrainedModel:
    import torch

    with torch.device("meta"), _seeded(0):
        return _causal(config)


def _n_parameters(model: PreTrainedModel) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _weights(name: str, files: Files) -> PreTrainedModel:
    import torch
    import transformers

    auto: Any = transformers.AutoModelForCausalLM
    model, info = auto.from_pretrained(
        files.directory,
        dtype=torch.float32,
        trust_remote_code=False,
        local_files_only=True,
        output_loading_info=True,
    )
    if missing := sorted(info["missing_keys"]):
        raise TrainingFailed(
            f"The weights of {name} lack {len(missing)} of the model's tensors, {missing[0]} first.",
            hint="Fetch or copy the model again.",
        )
    return cast("PreTrainedModel", model)


def _tokenizer(name: str, files: Files) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    try:
        return cast("PreTrainedTokenizerBase", AutoTokenizer.from_pretrained(files.directory, trust_remote_code=False))
    except _UNREADABLE as error:
        raise TrainingFailed(
            f"The tokenizer of {name} is missing or cannot be read: {_first_line(error)}",
            hint=f"It belongs beside the weights, most often as tokenizer.json, in {files.directory}.",
        ) from error


def _context(config: PreTrainedConfig) -> int | None:
    given: Any = getattr(config.get_text_config(), "max_position_embeddings", None)
    return given if isinstance(given, int) and given > 0 else None


def _tokenize(
    name: str, tokenizer: PreTrainedTokenizerBase, eos: int | None, *, known: int
) -> Callable[[str], list[int]]:
    def tokenize(text: str) -> list[int]:
        ids = cast("list[int]", tokenizer(text, verbose=False)["input_ids"])
        if max(ids, default=0) >= known:
            raise TrainingFailed(
                f"The tokenizer of {name} gives the token {max(ids)}; the model knows those below {known}.",
                hint="It belongs to another model, or tokens were added to it: take the model's own tokenizer.",
            )
        return ids[:-1] if len(ids) > 1 and ids[-1] == eos else ids

    return tokenize


def _check_device(device: str, precision: str) -> None:
    import torch

    if device.startswith("cuda"):
        # Must be set before CUDA is used: without it cuBLAS may sum in another order from run to run.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        if not torch.cuda.is_available():
            raise Unsupported("There is no CUDA device here, or this torch is built without CUDA.", hint="Use cpu.")
        if precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
            raise Unsupported("This GPU cannot compute in bf16.", hint="Use precision: fp32.")


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Torch's random numbers from ``seed`` within, and as they were afterwards."""
    import torch

    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """What the libraries raise of a model that cannot be read, in words."""
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    try:
        yield
    except (*_UNREADABLE, SafetensorError, StrictDataclassError, pickle.UnpicklingError) as error:
        raise TrainingFailed(
            f"The model {name} cannot be read: {_first_line(error)}",
            hint="A file may be torn or missing: fetch or copy the model again.",
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().partition("\n")[0] or type(error).__name__)[:300]
