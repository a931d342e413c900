"""A recording of an LLM's answers over the sample data set, for the tests' server to play back."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.chats.offline_rules import rewrite, same

SAMPLE = Path(__file__).parents[1] / "configs" / "sample" / "Copa" / "copa_train.jsonl"


def record_sample(path: Path) -> Path:
    """Writes one row for each premise of the sample, as ``tests.llm_server --recorded`` reads them."""
    rows = []
    for line in SAMPLE.read_text(encoding="utf-8").splitlines():
        original = json.loads(line)["premise"]
        rephrased = rewrite(original, seed=len(original), temperature=0.9)
        verdict = "same" if same(original, rephrased) else "not the same"
        rows.append({"original_premise": original, "rephrased_premise": rephrased, "verdict": verdict})
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")
    return path
