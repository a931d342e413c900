"""A tree as the older system left it, made by hand, with what goes wrong in such trees."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ORIGINALS = [
    {"premise": f"The man number {number} left.", "choice1": "He was late.", "choice2": "He slept.",
     "question": "cause", "idx": number, "label": number % 2}
    for number in range(6)
]  # fmt: skip
PROMPT = "Say it in other words: {premise}\n"
JUDGE = "Do {original_premise} and {rephrased_premise} mean the same?\n"
LITERAL = "sk-" + "notarealkey" * 2


def old_fingerprint(temperature: float, model: str = "gpt-4o") -> str:
    """The fingerprint that the older system gave such a config, made of its recipe by hand."""
    said = {
        "gen_frequency_penalty": 0.0, "gen_max_tokens": 256, "gen_model": model, "gen_presence_penalty": 0.0,
        "gen_prompt_hash": hashlib.md5(PROMPT.encode()).hexdigest()[:8], "gen_temperature": temperature,
        "gen_top_p": 1.0, "val_model": "gpt-4o",
        "val_prompt_hash": hashlib.md5(JUDGE.encode()).hexdigest()[:8], "val_temperature": 0.0,
    }  # fmt: skip
    return hashlib.md5(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]


def config_text(temperature: float, *, batch: str = "batch_20241229_temperature", more: str = "") -> str:
    """A config of the older system, as it was copied beside the data."""
    return f"""\
experiment:
  batch_id: "{batch}"
  purpose: "temperature_study"
  description: "What temperature does"
dataset:
  task_name: "copa"
  input_path: "Data/original/Copa/copa_train.jsonl"
generation:
  model: "gpt-4o"
  temperature: {temperature}
  field_to_rephrase: "premise"
{more}  rephrase_prompt: |
    {PROMPT.strip()}
validation:
  model: "gpt-4o"
  validation_prompt: |
    {JUDGE.strip()}
"""


def jsonl(records: Sequence[Mapping[str, Any]], *, ascii_only: bool = False) -> str:
    return "".join(f"{json.dumps(record, ensure_ascii=ascii_only)}\n" for record in records)


def rephrased(records: Sequence[Mapping[str, Any]] = ORIGINALS, *, kept: Sequence[int] = (2,)) -> list[dict[str, Any]]:
    """Synthetic records: every premise said otherwise, but those that were kept."""
    return [
        dict(record) if number in kept else {**record, "premise": f"Number {number} went away."}
        for number, record in enumerate(records)
    ]


def write_originals(project: Path) -> Path:
    """Data/original/Copa in three splits."""
    directory = project / "Data" / "original" / "Copa"
    directory.mkdir(parents=True)
    for split, records in (("train", ORIGINALS), ("validation", ORIGINALS[:2]), ("test", ORIGINALS[:3])):
        (directory / f"copa_{split}.jsonl").write_text(jsonl(records))
    return directory


def write_experiment(home: Path, temperature: float, *, directly: bool = False, **files: str | None) -> Path:
    """One directory below _shared; ``files`` replace its files by name without endings (None: not there)."""
    data = home if directly else home / "Copa"
    data.mkdir(parents=True)
    (data / "copa_train.jsonl").write_text(jsonl(rephrased()))
    (data / "copa_validation.jsonl").write_text(jsonl(ORIGINALS[:2]))
    (data / "copa_test.jsonl").write_text(jsonl(ORIGINALS[:3]))
    fingerprint = old_fingerprint(temperature)
    metadata = {
        "parameter_fingerprint": fingerprint, "created_at": "2024-12-29 10:30:00",
        "original_batch": "batch_20241229_temperature",
        "generation": {"model": "gpt-4o", "temperature": temperature}, "validation": {"model": "gpt-4o"},
    }  # fmt: skip
    written = {
        ".fingerprint": files.get("fingerprint", f"{fingerprint}\n"),
        "experiment_metadata.json": files.get("metadata", json.dumps(metadata, indent=2)),
        "generation_config.yaml": files.get("config", config_text(temperature)),
        "README.md": files.get("readme", "# What temperature does\n"),
        "generate.py": files.get("script", "print('made')\n"),
    }
    for name, text in written.items():
        if text is not None:
            (home / name).write_text(text)
    return home


def write_tree(project: Path) -> Path:
    """Two experiments (one with a wrong fingerprint and literal keys), two batches, a dead link, a hollow directory."""
    write_originals(project)
    synthetic = project / "Data_v2" / "synthetic"
    copa = synthetic / "_shared" / "Copa"
    write_experiment(copa / "temp05_topp10_gpt4o", 0.5)
    write_experiment(
        copa / "temp07_topp10_gpt4o", 0.7, directly=True, fingerprint="aaaaaaaaaaaa\n",
        config=config_text(0.7, more=f'  api_key: "{LITERAL}"\n'), script=f'api_key = "{LITERAL}"\n',
    )  # fmt: skip
    (copa / "temp09_topp10_gpt4o").mkdir()
    (copa / "temp09_topp10_gpt4o" / ".fingerprint").write_text(f"{old_fingerprint(0.9)}\n")
    first, second = synthetic / "batch_20241229_temperature" / "Copa", synthetic / "batch_20241230_model" / "Copa"
    first.mkdir(parents=True)
    second.mkdir(parents=True)
    for name in ("temp05_topp10_gpt4o", "temp07_topp10_gpt4o"):
        (first / name).symlink_to(f"../../_shared/Copa/{name}/")
    (second / "temp07_topp10_gpt4o").symlink_to(copa / "temp07_topp10_gpt4o")
    (second / "temp03_topp10_gpt4o").symlink_to("../../_shared/Copa/temp03_topp10_gpt4o/")
    return project


RUN = "Results_v2/tuning/meta-llama/Llama-3.2-1B/Copa_zo_temp05_topp10_gpt4o_1_6/20251226_143000"


def write_run(old: Path) -> Path:
    """The results of a training on its first experiment."""
    directory = old / RUN
    directory.mkdir(parents=True)
    config = {
        "timestamp": "20251226_143000", "experiment_purpose": "tuning", "model": "meta-llama/Llama-3.2-1B",
        "task": "Copa", "method": "zo", "hyperparameters": {"learning_rate": 1e-6, "batch_size": 16, "seed": 0},
        "data": {"path": "Data_v2/synthetic/batch_20241229_temperature/Copa/temp05_topp10_gpt4o/Copa"},
    }  # fmt: skip
    (directory / "experiment_config.yaml").write_text(json.dumps(config))
    (directory / "1_6_train.out").write_text("{'loss': 0.69, 'step': 10}\n{'train_runtime': 60.0}\n")
    (directory / "1_6_train.err").write_text("{'accuracy': 0.5}\n")
    return directory
