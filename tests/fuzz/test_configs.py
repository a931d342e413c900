"""Configs of every kind, changed in ways that nobody would: refused with what is wrong, or carried out."""

from __future__ import annotations

from pathlib import Path

import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import odd
from tests.fuzz.cage import Cage
from tests.fuzz.odd import Json, fuzzed
from tests.workspaces import REPOSITORY

CONFIGS = REPOSITORY / "configs"
PLACES = {
    "generate": "stage1/copa_offline.yaml",
    "two_stage": "stage1/copa_two_stage_offline.yaml",
    "perspectives": "perspectives/translation_offline.yaml",
    "pool": "pools/sample.yaml",
    "benchmarks": "pools/data_config_sample.yaml",
    "train": "stage2/copa_tiny.yaml",
    "mixed": "stage2/baseline_comparison/copa_mixed.yaml",
    "lora": "stage2/method_comparison/copa_fo_lora.yaml",
}
COMMANDS: dict[str, tuple[str, ...]] = {
    "generate": ("generate", "FILE", "--dry-run", "--json"),
    "two_stage": ("generate", "FILE", "--dry-run"),
    "perspectives": ("perspectives", "FILE", "--dry-run"),
    "pool": ("pool", "build", "FILE", "--no-mlflow"),
    "benchmarks": ("pool", "preprocess", "--config", "FILE", "--json"),
    "train": ("train", "FILE", "--dry-run", "--json"),
    "mixed": ("train", "FILE", "--dry-run"),
    "lora": ("train", "FILE", "--dry-run"),
}
TEXTS = {kind: (CONFIGS / name).read_bytes() for kind, name in PLACES.items()}
BASES: dict[str, Json] = {kind: yaml.safe_load(text) for kind, text in TEXTS.items()}

any_kind = st.sampled_from(sorted(PLACES))


def documents(kinds: st.SearchStrategy[str] = any_kind) -> st.SearchStrategy[tuple[str, Json]]:
    return kinds.flatmap(lambda kind: st.tuples(st.just(kind), odd.documents(BASES[kind])))


def tried(cage: Cage, kind: str, content: bytes, suffix: str) -> None:
    path = cage.root / "configs" / Path(PLACES[kind]).parent / f"fuzzed{suffix}"
    path.write_bytes(content)
    arguments = [path.relative_to(cage.root) if each == "FILE" else each for each in COMMANDS[kind]]
    done = cage.call(*arguments)
    if done.code or kind in {"pool", "benchmarks"}:
        cage.renew()


@fuzzed
@given(documents(), st.sampled_from((".json", ".yaml")))
def test_documents(filled: Cage, document: tuple[str, Json], suffix: str) -> None:
    kind, value = document
    if suffix == ".json":
        tried(filled, kind, odd.json_text(value), suffix)
    else:
        tried(filled, kind, _yaml(value), suffix)


def _yaml(value: Json) -> bytes:
    try:
        return yaml.dump(value, sort_keys=False, allow_unicode=True).encode("utf-8", "surrogatepass")
    except RecursionError:
        return odd.json_text(value)


@fuzzed
@given(any_kind.flatmap(lambda kind: st.tuples(st.just(kind), odd.damaged(TEXTS[kind]))))
def test_bytes_of_yaml(filled: Cage, damaged: tuple[str, bytes]) -> None:
    tried(filled, damaged[0], damaged[1], ".yaml")


@fuzzed
@given(any_kind.flatmap(lambda kind: st.tuples(st.just(kind), odd.damaged(odd.json_text(BASES[kind])))))
def test_bytes_of_json(filled: Cage, damaged: tuple[str, bytes]) -> None:
    tried(filled, damaged[0], damaged[1], ".json")
