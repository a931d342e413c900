"""How much memory a training needs and how much there is, and what to say where it does not suffice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from tracker.errors import TrainingFailed

_FP32, _BF16 = 4, 2
# Values that one layer keeps of one token for the backward pass, in units of the hidden size, as counted with
# torch.autograd.graph.saved_tensors_hooks: 22 (feed-forward of 2.75 times the hidden size) to 30 (4 times) in a Llama.
_KEPT_FOR_BACKWARD = 30
# Of those in bf16 autocast this share of the bytes; the weights' copies in bf16 come on top.
_BF16_SHARE = 0.7
_SMALLER_STEPS = "a smaller batch_size or max_length, a higher gradient_accumulation, or gradient_checkpointing: true"
_WHAT_TO_CHANGE = {
    "load": "Use a smaller model.",
    "zo": "Use zo_memory: in_place, a smaller batch_size or max_length, or a smaller model.",
    "fo_lora": f"Use {_SMALLER_STEPS}.",
    "fo_full": f"Use {_SMALLER_STEPS}, or a method that needs less (fo_lora, zo).",
}
_CGROUP = Path("/sys/fs/cgroup")
_CACHED = {"active_file", "inactive_file"}


class Sizes(Protocol):
    """The sizes of a model that memory depends on; see ``models.ModelInfo``."""

    @property
    def n_parameters(self) -> int: ...
    @property
    def n_layers(self) -> int: ...
    @property
    def hidden(self) -> int: ...
    @property
    def vocab(self) -> int: ...
    @property
    def linear_width(self) -> int: ...


def estimate_memory(
    info: Sizes,
    *,
    method: str,
    precision: str,
    tokens: int,
    lora_rank: int | None = None,
    zo_memory: str = "auto",
    gradient_checkpointing: bool = False,
    directions: int = 1,
) -> int:
    """Bytes that training needs at most in forwards of ``tokens`` tokens; 0.9 to 1.5 times what small models took.

    Weights: 4 bytes a parameter, and 2 more in bf16. On top of that, for each parameter that is trained (all, or
    LoRA's): fo 12 (gradient and AdamW's two moments), zo what ``zo.memory_to_keep`` says where it keeps its noise
    (``auto`` keeps it only where it fits, so counts as not): 4 for each of ``directions``, and 4 more in fp32.
    Activations: fo 4 x 30 x hidden x layers x tokens, zo and checkpointing of one layer only, and the logits of the
    answers, taken as half of all tokens, with their gradients.
    """
    lora = lora_rank * info.linear_width if lora_rank and method != "fo_full" else 0
    trained = lora or info.n_parameters
    zo = method == "zo"
    bf16 = precision == "bf16"
    kept = directions + (not bf16) if zo_memory == "keep" else 0
    state = trained * _FP32 * (kept if zo else 3)
    layers = 1 if zo or gradient_checkpointing else info.n_layers
    activations = _FP32 * _KEPT_FOR_BACKWARD * info.hidden * layers * tokens
    if gradient_checkpointing and not zo:
        activations += _FP32 * info.hidden * info.n_layers * tokens
    weights = (info.n_parameters + lora) * (_FP32 + (_BF16 if bf16 else 0))
    if bf16:
        activations = int(activations * _BF16_SHARE)
    logits = tokens // 2 * info.vocab * _FP32 * (2 if zo else 3)
    return weights + state + activations + logits


def forward_tokens(batch_tokens: int, longest_record_tokens: int, token_budget: int) -> int:
    """The most tokens of one forward: of a batch what the budget allows, but a single record is never divided."""
    return max(longest_record_tokens, min(token_budget, batch_tokens))


def free_memory(device: str) -> int:
    """Bytes that are free on ``device``; of the CPU's no more than the container may have."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.mem_get_info(torch.device(device))[0]
    import psutil

    free = int(psutil.virtual_memory().available)
    try:
        limit, used, details = ((_CGROUP / f"memory.{name}").read_text() for name in ("max", "current", "stat"))
    except OSError:  # no container, or an older kernel
        return free
    if limit.strip() == "max":
        return free
    # Files that were read, as a model's weights are, stay in memory only until it is wanted.
    cached = sum(int(size) for name, size in map(str.split, details.splitlines()) if name in _CACHED)
    return max(0, min(free, int(limit) - int(used) + cached))


def require_memory(needed: int, *, device: str, method: str) -> None:
    """Raises TrainingFailed where ``device`` has less than ``needed`` bytes free; ``method`` may also be load."""
    free = free_memory(device)
    if needed > free:
        raise TrainingFailed(
            f"Too little memory on {device}: about {_gigabytes(needed)} are needed, {_gigabytes(free)} are free.",
            hint=f"{_WHAT_TO_CHANGE[method]} What else runs on this machine may take it up.",
        )


@contextmanager
def out_of_memory(method: str) -> Iterator[None]:
    """What torch raises where memory runs out in ``method`` (or load) becomes TrainingFailed: what to change."""
    import torch

    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _exhausted(error, method) from error
    except RuntimeError as error:
        # The CPU's allocator has no class of its own.
        if "alloc" in str(error) and "memory" in str(error):
            raise _exhausted(error, method) from error
        raise


def _exhausted(error: BaseException, method: str) -> TrainingFailed:
    said = str(error).strip().partition("\n")[0][:200]
    return TrainingFailed(f"Out of memory{f': {said}' if said else '.'}", hint=_WHAT_TO_CHANGE[method])


def _gigabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB"
