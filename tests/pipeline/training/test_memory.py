"""What a training is said to need is what it takes."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pipeline.training import first_order, memory, models, zo_loop
from pipeline.training.memory import estimate_memory, forward_tokens, free_memory, out_of_memory, require_memory
from pipeline.training.packing import estimate_tokens
from pipeline.training.zo import Memory, ZeroOrder, memory_to_keep
from tests.pipeline.training.tiny import encoded
from tests.pipeline.training.zo_run import Watch, setup
from tracker.errors import TrainingFailed

N = 1000
SIZES = SimpleNamespace(n_parameters=N, n_layers=2, hidden=8, vocab=10, linear_width=60)


def held(precision: str, **given: Any) -> int:
    """Bytes of a zo training that hold weights and noise: those of a forward of no token."""
    return estimate_memory(SIZES, method="zo", precision=precision, tokens=0, **given)


@pytest.mark.parametrize(
    ("precision", "given", "bytes_a_parameter"),
    [
        ("fp32", {"zo_memory": "in_place"}, 4),
        ("fp32", {"zo_memory": "auto"}, 4),
        ("fp32", {"zo_memory": "keep"}, 12),
        ("fp32", {"zo_memory": "keep", "directions": 4}, 24),
        ("bf16", {"zo_memory": "in_place"}, 6),
        ("bf16", {"zo_memory": "keep"}, 10),
        ("bf16", {"zo_memory": "keep", "directions": 3}, 18),
    ],
    ids=str,
)
def test_weights_and_noise_of_zo_are_counted(precision: str, given: dict[str, Any], bytes_a_parameter: int) -> None:
    assert held(precision, **given) == bytes_a_parameter * N


@pytest.mark.parametrize("directions", [1, 4])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("memory", ["keep", "in_place"])
def test_zo_takes_what_is_said(memory: Memory, precision: str, directions: int) -> None:
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    model = nn.Linear(2000, 1000, bias=False)
    before = held_by(tensors()) - held_by([model.weight])
    optimizer = ZeroOrder(model.parameters(), seed=0, directions=directions, memory=memory, compute_dtype=dtype)
    gc.collect()
    taken = (held_by(tensors()) - before) / model.weight.numel()
    assert optimizer.parameters == [model.weight]
    said = held(precision, zo_memory=memory, directions=directions) / N
    # The chunks that noise is drawn in are not counted: their size does not depend on the model.
    assert said <= taken < said + 1.5
    kept = memory_to_keep(N, directions=directions, compute_dtype=dtype) if memory == "keep" else 0
    assert held(precision, zo_memory=memory, directions=directions) - held(precision, zo_memory="in_place") == kept


def test_the_frozen_base_of_zo_on_lora_is_there_twice_in_bf16() -> None:
    assert held("bf16", lora_rank=2) - held("fp32", lora_rank=2) == 2 * (N + 2 * 60)
    assert held("bf16", lora_rank=2, zo_memory="keep") - held("bf16", lora_rank=2) == 4 * 2 * 60


@pytest.mark.parametrize(
    ("batch", "longest", "budget", "forward"), [(900, 80, 512, 512), (300, 80, 512, 300), (900, 700, 512, 700)]
)
def test_a_forward_has_what_the_budget_allows_and_at_least_a_record(
    batch: int, longest: int, budget: int, forward: int
) -> None:
    assert forward_tokens(batch, longest, budget) == forward


class Peak(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """The most bytes that tensors held at a time, as they come from torch's operations."""

    def __init__(self, before: Iterator[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.bytes = 0
        self._living: dict[int, tuple[Any, int]] = {}
        for each in before:
            self._add(each)

    def _add(self, tensor: Tensor) -> None:
        storage, watch = tensor.untyped_storage(), cast("Callable[[object], Any]", StorageWeakRef)
        known = self._living.get(storage.data_ptr())
        if known is None or known[0].expired():
            self._living[storage.data_ptr()] = (watch(storage), storage.nbytes())
            self._living = {at: each for at, each in self._living.items() if not each[0].expired()}
            self.bytes = max(self.bytes, sum(size for _, size in self._living.values()))

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        for each in tree_leaves(found):
            if isinstance(each, Tensor):
                self._add(each)
        return found


@pytest.mark.parametrize(
    ("method", "precision", "checkpointing"),
    [
        ("fo_full", "fp32", False),
        ("fo_full", "fp32", True),
        ("fo_full", "bf16", False),
        ("fo_lora", "fp32", False),
        ("fo_lora", "bf16", True),
        ("zo", "fp32", False),
        ("zo", "bf16", False),
    ],
)
def test_a_training_takes_about_what_is_said(tmp_path: Path, method: str, precision: str, checkpointing: bool) -> None:
    name, rank, records = "scratch:llama-tiny", 8 if method == "fo_lora" else None, encoded("BOOLQ")
    net = models.load(name, device="cpu", precision=precision, seed=0, environ={}).model
    if rank is not None:
        net = models.with_lora(net, rank=rank, alpha=16.0, seed=0)
    run = setup(
        tmp_path, Watch(), model=net, train=records, dev=records[:1], method=method, precision=precision,
        token_budget=10_000, zo_memory="in_place", gradient_checkpointing=checkpointing, steps=2, batch_size=3,
    )  # fmt: skip
    with Peak(net.parameters()) as peak:
        (zo_loop if method == "zo" else first_order).train(run)
    said = estimate_memory(
        models.describe(name, environ={}), method=method, precision=precision, tokens=estimate_tokens(records),
        lora_rank=rank, zo_memory="in_place", gradient_checkpointing=checkpointing,
    )  # fmt: skip
    assert 0.9 * peak.bytes < said < 1.5 * peak.bytes


def test_too_little_memory_is_said_before_it_is_taken() -> None:
    require_memory(1, device="cpu", method="zo")
    with pytest.raises(TrainingFailed, match=r"Too little memory on cpu: about 1152921504.6 GB are needed, ") as failed:
        require_memory(1 << 60, device="cpu", method="zo")
    assert str(failed.value.hint).startswith("Use zo_memory: in_place, a smaller batch_size")


def torch_runs_out() -> None:
    torch.empty(1 << 60, dtype=torch.uint8)


def python_runs_out() -> None:
    bytearray(1 << 60)


def a_gpu_runs_out() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore than a line of it.")


@pytest.mark.parametrize("runs_out", [torch_runs_out, python_runs_out, a_gpu_runs_out])
@pytest.mark.parametrize("method", ["load", "zo", "fo_lora", "fo_full"])
def test_out_of_memory_says_what_to_change(runs_out: Callable[[], None], method: str) -> None:
    with pytest.raises(TrainingFailed, match=r"^Out of memory[^\n]*") as failed, out_of_memory(method):
        runs_out()
    assert failed.value.exit_code == 16
    said = {"load": "smaller model", "zo": "zo_memory: in_place", "fo_lora": "batch_size", "fo_full": "fo_lora, zo"}
    assert said[method] in str(failed.value.hint)


@pytest.mark.parametrize("other", [RuntimeError("size mismatch"), ValueError("memory alloc")])
def test_what_is_no_lack_of_memory_stays_what_it_is(other: Exception) -> None:
    with pytest.raises(type(other)) as failed, out_of_memory("zo"):
        raise other
    assert failed.value is other


def test_a_container_has_what_its_limit_leaves_but_for_files_that_were_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    machine = free_memory("cpu")
    assert machine > 1 << 20

    def contain(limit: object, used: int) -> int:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        (tmp_path / "memory.current").write_text(f"{used}\n")
        (tmp_path / "memory.stat").write_text("anon 900\nfile 150\ninactive_file 70\nactive_file 30\nshmem 50\n")
        return free_memory("cpu")

    assert contain(5000, 1000) == 4100
    assert contain(5000, 6000) == 0
    # Other processes come and go meanwhile.
    assert contain("max", 1000) > 1 << 20
    assert contain(1 << 60, 1000) > 1 << 20


def tensors() -> Iterator[Tensor]:
    for each in gc.get_objects():
        # isinstance would ask what only seems to be a tensor, which warns.
        if issubclass(type(each), Tensor):
            yield each


def held_by(found: Iterator[Tensor] | list[Tensor]) -> int:
    return sum({each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in found}.values())
