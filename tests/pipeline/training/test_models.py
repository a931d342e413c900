"""Models as they are loaded: what they are, how they read a text, and words for those that cannot be used."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import processors
from transformers import AutoTokenizer, PreTrainedModel

from pipeline.training import models, scratch
from tests.pipeline.training.hub import COMMIT, running_hub
from tests.pipeline.training.tiny import BOS, VOCABULARY, encoded, model
from tests.pipeline.training.zo_run import weights
from tracker.errors import Error, TrainingFailed, Unsupported

EOS = BOS + 1
ROOT = Path(__file__).parents[3]


def saved(path: Path, net: PreTrainedModel | None = None, tokenizer: Any = None) -> Path:
    """A model's directory as save_pretrained writes it."""
    (net or model("llama")).save_pretrained(path)
    (tokenizer or scratch.tokenizer()).save_pretrained(path)
    return path


def loaded(path: Path) -> models.Loaded:
    return models.load(str(path), device="cpu", precision="fp32", seed=0, environ={})


def refused(kind: type[Error], call: Callable[[Path], object], path: Path) -> str:
    with pytest.raises(kind) as error:
        call(path)
    assert error.value.hint
    # Of the libraries' long explanations one line at most.
    assert len(str(error.value)) < 700
    return error.value.message


def described(path: Path) -> models.ModelInfo:
    return models.describe(str(path), environ={})


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt"])
def test_a_directory_is_loaded_as_it_was_saved(tmp_path: Path, name: str) -> None:
    net = model(name)
    found = loaded(saved(tmp_path, net)).model
    assert not found.training
    assert {each.dtype for each in found.parameters()} == {torch.float32}
    ids = torch.tensor([encoded("CB")[0].sequences[0]])
    assert torch.equal(found(ids).logits, net(ids).logits)


def test_parameters_are_wide_whatever_was_saved(tmp_path: Path) -> None:
    narrow = model("llama", torch.bfloat16)
    found = loaded(saved(tmp_path, narrow)).model
    assert {each.dtype for each in found.parameters()} == {torch.float32}
    for ours, theirs in zip(found.parameters(), narrow.parameters(), strict=True):
        assert torch.equal(ours, theirs.float())


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "bloom"])
def test_sizes_are_known_without_the_weights(tmp_path: Path, name: str) -> None:
    info, net = described(saved(tmp_path, model(name))), model(name)
    assert info.n_parameters == sum(each.numel() for each in net.parameters())
    assert (info.n_layers, info.hidden, info.vocab) == (2, 32, VOCABULARY)
    adapted = models.with_lora(net, rank=3, alpha=1.0, seed=0)
    assert 3 * info.linear_width == sum(each.numel() for each in adapted.parameters() if each.requires_grad)


@pytest.mark.parametrize(("name", "context"), [("llama", 2048), ("gpt2", 1024), ("bloom", None)])
def test_the_context_is_the_models(tmp_path: Path, name: str, context: int | None) -> None:
    path = saved(tmp_path, model(name))
    assert described(path).context == loaded(path).context == context


def test_tied_embeddings_are_one(tmp_path: Path) -> None:
    net = model("gpt2")
    found: Any = loaded(saved(tmp_path, net)).model
    assert found.get_input_embeddings().weight is found.get_output_embeddings().weight
    own = {id(each): each.numel() for each in net.parameters()}
    assert described(tmp_path).n_parameters == sum(own.values())
    assert len(list(found.parameters())) == len(own)


def test_a_directory_is_loaded_without_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "model")
    with running_hub(monkeypatch, tmp_path / "cache") as hub:
        described(path)
        loaded(path)
    assert hub.requests == []


def test_a_model_of_the_hub_is_the_same_as_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "model")
    with running_hub(monkeypatch, tmp_path / "cache") as hub:
        hub.directories["them/model"] = path
        info = models.describe("them/model", environ={"HF_TOKEN": "hf_secret"})
        asked = hub.files_asked()
        found = models.load("them/model", device="cpu", precision="fp32", seed=0, environ={"HF_TOKEN": "hf_secret"})
    assert asked == {"config.json"}
    assert {token for _, token in hub.requests} == {"hf_secret"}
    assert info == replace(described(path), name="them/model", identity={"hub": "them/model", "revision": COMMIT})
    assert weights(found.model) == weights(loaded(path).model)
    assert found.tokenize("ab") == loaded(path).tokenize("ab")


def test_a_text_begins_as_the_tokenizer_says_and_has_no_end(tmp_path: Path) -> None:
    ending: Any = scratch.tokenizer()
    begin, end = ending.bos_token, ending.eos_token
    ending.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}", special_tokens=[(begin, BOS), (end, EOS)]
    )
    path = saved(tmp_path, tokenizer=ending)
    assert AutoTokenizer.from_pretrained(path)("ab")["input_ids"] == [BOS, 97, 98, EOS]
    found = loaded(path)
    assert found.tokenize("ab") == [BOS, 97, 98]
    assert found.tokenize("") == [BOS]
    assert found.eos == EOS


def test_no_token_to_pad_with_is_no_obstacle(tmp_path: Path) -> None:
    found = loaded(saved(tmp_path))
    tokenizer: Any = found.tokenizer
    assert tokenizer.pad_token_id is None
    assert found.tokenize("a") == [BOS, 97]


def test_a_token_that_the_model_does_not_know(tmp_path: Path) -> None:
    more: Any = scratch.tokenizer()
    more.add_tokens(["zebra"])
    found = loaded(saved(tmp_path, tokenizer=more))
    assert found.tokenize("a") == [BOS, 97]
    with pytest.raises(
        TrainingFailed, match=rf"gives the token {VOCABULARY}; the model knows those below {VOCABULARY}\."
    ):
        found.tokenize("a zebra")


def without(name: str) -> Callable[[Path], None]:
    return lambda path: (path / name).unlink()


def config_of(**given: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        before = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps(before | given))

    return change


def torn(path: Path) -> None:
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def incomplete(path: Path) -> None:
    weights = load_file(path / "model.safetensors")
    save_file({name: each for name, each in weights.items() if "layers.1.mlp" not in name}, path / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (config_of(model_type="mamba9"), Unsupported, r"The architecture of .*, mamba9, is unknown to transformers \d"),
        (config_of(model_type=None), Unsupported, r"The architecture of .*, unnamed, is unknown"),
        (config_of(architectures=["LlamaForSequenceClassification"]), Unsupported, "but LlamaForSequenceClassif"),
        (config_of(model_type="bert", architectures=["BertForMaskedLM"]), Unsupported, "but BertForMaskedLM"),
        (config_of(model_type="t5", architectures=["T5ForConditionalGeneration"]), Unsupported, "but T5ForCond"),
        (config_of(hidden_size="wide"), TrainingFailed, "cannot be read: "),
        (config_of(num_attention_heads=5), TrainingFailed, "cannot be read: "),
        (lambda path: (path / "config.json").write_text("{"), TrainingFailed, "cannot be read: "),
    ],
)
def test_a_model_that_is_none_is_refused_before_anything_is_read(
    tmp_path: Path, change: Callable[[Path], None], kind: type[Error], words: str
) -> None:
    change(saved(tmp_path))
    for call in (described, loaded):
        assert re.search(words, refused(kind, call, tmp_path))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (torn, "cannot be read: "),
        (incomplete, r"lack 3 of the model's tensors, model.layers.1.mlp.down_proj.weight first"),
        (config_of(intermediate_size=50), "cannot be read: "),
        (without("tokenizer.json"), "The tokenizer of .* is missing or cannot be read: "),
        (lambda path: (path / "tokenizer.json").write_text("{"), "The tokenizer of .* is missing or cannot be read: "),
    ],
)
def test_files_that_are_damaged_are_said(tmp_path: Path, change: Callable[[Path], None], words: str) -> None:
    change(saved(tmp_path))
    assert re.search(words, refused(TrainingFailed, loaded, tmp_path))


def test_code_that_comes_with_a_model_is_not_run(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    ran = tmp_path / "ran"
    (tmp_path / "model" / "own.py").write_text(f"open({str(ran)!r}, 'w')")
    config_of(model_type="own", auto_map={"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"})(tmp_path / "model")
    assert "own, is unknown" in refused(Unsupported, loaded, tmp_path / "model")
    assert not ran.exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_no_gpu_is_said() -> None:
    with pytest.raises(Unsupported, match="There is no CUDA device here"):
        models.load("scratch:llama-tiny", device="cuda", precision="fp32", seed=0, environ={})


def test_lora_changes_nothing_at_first_and_is_scaled_by_alpha() -> None:
    ids = torch.tensor([encoded("CB")[0].sequences[0]])
    expected = model("llama")(ids).logits
    found = {}
    for alpha in (1.5, 6.0):
        adapted: Any = models.with_lora(model("llama"), rank=3, alpha=alpha, seed=0)
        assert not adapted.training
        assert torch.equal(adapted(ids).logits, expected)
        assert all("lora_" in name for name, each in adapted.named_parameters() if each.requires_grad)
        layer = adapted.get_base_model().model.layers[0].mlp.up_proj
        torch.nn.init.ones_(layer.lora_B["default"].weight)
        x = torch.ones(1, 32)
        found[alpha] = layer(x) - layer.base_layer(x)
        own = layer.lora_B["default"](layer.lora_A["default"](x))
        torch.testing.assert_close(found[alpha], own * alpha / 3)
    torch.testing.assert_close(found[6.0], found[1.5] * 4)


def test_loras_first_values_are_the_seeds() -> None:
    def first(seed: int) -> list[torch.Tensor]:
        return [each for each in models.with_lora(model("llama"), rank=2, alpha=1.0, seed=seed).parameters()
                if each.requires_grad and each.any()]  # fmt: skip

    assert all(map(torch.equal, first(0), first(0)))
    assert not any(map(torch.equal, first(0), first(1)))


def test_it_says_nothing_to_the_terminal(tmp_path: Path) -> None:
    code = f"""
from pipeline.training import models
from torch import ones
models.describe({str(saved(tmp_path / "model"))!r}, environ={{}})
found = models.load({str(tmp_path / "model")!r}, device="cpu", precision="fp32", seed=0, environ={{}})
found.tokenize("long " * 5000)
models.with_lora(found.model, rank=2, alpha=1.0, seed=0)
"""
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_what_to_install_is_said() -> None:
    # Without site-packages nothing is installed; what tells so must need nothing of it.
    code = """
from pipeline.training import models
from tracker.errors import Unsupported
try:
    models.describe("scratch:llama-tiny", environ={})
except Unsupported as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-E", "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == (
        "Training needs torch, transformers, peft, accelerate, not installed here.\npip install 'synthtrack[train]'\n"
    )
