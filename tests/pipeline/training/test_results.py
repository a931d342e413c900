"""The files that a run leaves: whole or not there, and readable by those who know nothing of us."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from pipeline.training import results, scratch
from pipeline.training.evaluate import Prediction
from pipeline.training.models import with_lora
from pipeline.training.tree import pack, scores
from tests.faults.surroundings import fill, mounted
from tests.pipeline.training.hub import running_hub
from tests.pipeline.training.tiny import encoded
from tracker.errors import StorageError


def model(*, tied: bool = False) -> LlamaForCausalLM:
    torch.manual_seed(1)
    config: LlamaConfig = LlamaConfig(
        vocab_size=258, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        tie_word_embeddings=tied, bos_token_id=256, eos_token_id=257,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def logits(found: LlamaForCausalLM) -> torch.Tensor:
    with torch.no_grad():
        scores: torch.Tensor = found(torch.tensor([[256, 65, 66, 67]])).logits
    return scores


def hidden(directory: Path) -> list[str]:
    """What was written beside and not put into its place."""
    return [path.name for path in directory.iterdir() if path.name.startswith(".")]


WRITERS: dict[str, Callable[[Path], None]] = {
    "experiment_config.yaml": lambda directory: results.write_config(directory, {"task": "Copa"}),
    "metrics.json": lambda directory: results.write_metrics(directory, {"accuracy": 0.5}),
    "predictions.jsonl": lambda directory: results.write_predictions(directory, []),
}


def test_a_config_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    given = {"description": "türkçe: 1e-6 #no", "hyperparameters": {"learning_rate": 1e-06, "seed": 0}, "path": None}
    results.write_config(tmp_path, given)
    text = (tmp_path / "experiment_config.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text) == given
    assert "türkçe" in text
    results.write_config(tmp_path, {"seed": 1})
    assert yaml.safe_load((tmp_path / "experiment_config.yaml").read_text()) == {"seed": 1}


def test_predictions_are_a_line_each(tmp_path: Path) -> None:
    found = [Prediction(4, 1, 1, (-2.5, -0.125)), Prediction(7, 0, 1, (-3.0, -1.0))]
    results.write_predictions(tmp_path, found)
    lines = (tmp_path / "predictions.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"index": 4, "label": 1, "predicted": 1, "scores": [-2.5, -0.125], "correct": True},
        {"index": 7, "label": 0, "predicted": 1, "scores": [-3.0, -1.0], "correct": False},
    ]


@pytest.mark.parametrize("name", WRITERS)
def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(StorageError, match=rf"{name} cannot be written: No such file or directory"):
        WRITERS[name](tmp_path / "gone")
    (tmp_path / name).mkdir()
    with pytest.raises(StorageError, match=rf"{name} cannot be written: Is a directory"):
        WRITERS[name](tmp_path)
    assert hidden(tmp_path) == []
    (tmp_path / name).rmdir()
    WRITERS[name](tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("tied", [False, True])
def test_a_model_is_read_by_transformers_with_its_tokenizer(tmp_path: Path, tied: bool) -> None:
    given = model(tied=tied)
    results.write_model(tmp_path, given, scratch.tokenizer())
    found = LlamaForCausalLM.from_pretrained(tmp_path / "model")
    assert torch.equal(logits(found), logits(given))
    assert AutoTokenizer.from_pretrained(tmp_path / "model")("Ab")["input_ids"] == [256, 65, 98]
    assert hidden(tmp_path) == []


def test_an_adapter_is_read_by_peft_and_scores_as_it_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from peft import PeftModel

    def adapted() -> PreTrainedModel:
        return with_lora(model(), rank=2, alpha=6.0, seed=0)

    given, records = adapted(), encoded("CB")
    with torch.no_grad():
        for each in given.parameters():
            if each.requires_grad:
                each.add_(0.1)
    with running_hub(monkeypatch, tmp_path / "cache") as hub:
        results.write_model(tmp_path, given, scratch.tokenizer(), base="them/model")
    # It is of the base that it was made of, and nobody has to be asked for that.
    assert hub.requests == []
    about = json.loads((tmp_path / "model" / "adapter_config.json").read_text())
    assert (about["base_model_name_or_path"], about["r"], about["lora_alpha"]) == ("them/model", 2, 6.0)
    n_bytes = sum(4 * each.numel() for each in given.parameters() if each.requires_grad)
    assert n_bytes < (tmp_path / "model" / "adapter_model.safetensors").stat().st_size < n_bytes + 5000
    found = PeftModel.from_pretrained(model(), tmp_path / "model").eval()
    asked = pack(records, token_budget=100_000, device="cpu")[0]
    with torch.no_grad():
        assert torch.equal(scores(found, asked), scores(given, asked))
        assert not torch.equal(scores(given, asked), scores(adapted(), asked))


def test_parameters_that_share_a_buffer_are_saved_each(tmp_path: Path) -> None:
    """zo leaves them as views of one tensor, which safetensors takes for tied."""
    given = model()
    wanted = logits(given)
    flat = torch.cat([each.detach().reshape(-1) for each in given.parameters()])
    at = 0
    for each in given.parameters():
        each.data = flat[at : at + each.numel()].view_as(each)
        at += each.numel()
    results.write_model(tmp_path, given, scratch.tokenizer())
    assert torch.equal(logits(LlamaForCausalLM.from_pretrained(tmp_path / "model")), wanted)


def test_a_model_replaces_the_one_before_and_what_a_crash_left(tmp_path: Path) -> None:
    for name in ("model", ".model"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "torn.safetensors").write_bytes(b"torn")
    results.write_model(tmp_path, model(), scratch.tokenizer())
    assert not (tmp_path / "model" / "torn.safetensors").exists()
    assert (tmp_path / "model" / "model.safetensors").exists()
    assert hidden(tmp_path) == []


def test_a_model_that_does_not_fit_on_the_disk_leaves_the_one_before(tmp_path: Path) -> None:
    given = model()
    with mounted(tmp_path / "disk", "1M") as disk:
        results.write_model(disk, given, scratch.tokenizer())
        fill(disk, 40_000)
        with pytest.raises(StorageError, match=r"model cannot be written: .*No space left on device") as refused:
            results.write_model(disk, given, scratch.tokenizer())
        assert "Free some disk space" in str(refused.value.hint)
        assert torch.equal(logits(LlamaForCausalLM.from_pretrained(disk / "model")), logits(given))
        assert hidden(disk) == []


def test_a_model_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    with pytest.raises(StorageError, match="model cannot be written") as refused:
        results.write_model(in_the_way, model(), scratch.tokenizer())
    assert "save_model: false" in str(refused.value.hint)
