"""Prompts: placeholders, braces and expressions that are broken, large, or would run code."""

from __future__ import annotations

import copy

from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import odd
from tests.fuzz.cage import Cage
from tests.fuzz.odd import fuzzed
from tests.fuzz.test_configs import BASES

PIECES = (
    "{", "}", "{{", "}}", "{premise}", "{idx}", "{label}", "{ premise }", "{choice1 if label == 0 else choice2}",
    "{[1, 2][label]}", "{premise[0]}", "{premise[0:3]}", "{premise[::-1]}", "{premise + premise}", "{label / 0}",
    "{label % 0}", "{label // 0}", "{-label}", "{not label}", "{label < premise}", "{premise in [1]}",
    "{premise * 9}", "{9 * 9}", "{9**9**9}", "{1e308 * 10}", "{(1e308 * 10) // 1}", "{2.0 // 1e-320}",
    "{premise.upper()}", "{open('x')}", "{lambda: 1}", "{[x for x in premise]}", "{f'{premise}'}", "{'}'}", "{'{'}",
    "{'", '{"', "{'\\'}", "{()}", "{[]}", "{{REPHRASE_FEWSHOT}}", "{{VALIDATION_FEWSHOT}}", "{REPHRASE_FEWSHOT}",
    "{original_premise}", "{rephrased_premise}", "{" + "(" * 150 + "1" + ")" * 150 + "}", "{" + "-" * 300 + "1}",
    "{" + "not " * 300 + "1}", "{" + "1+" * 900 + "1}", "{1 if 1 else " * 60 + "1" + "}" * 60,
    "{premise" + "[0]" * 200 + "}", "{9" + "9" * 5000 + "}", "{0x" + "f" * 5000 + "}", "{None}", "{True}", "{...}",
    "{b'x'}", "{1j}", "{'a' 'b'}", "{premise:>10}", "{premise!r}", "{premise=}", "{#}", "{\n}", "{premise\n}", "{\\}",
    "{é}", "{ª}", "{🙂}", "{__import__}", "{__builtins__}", "{class}", "{premise;idx}", "\x00", "\ud800", "\ufeff",
    "\u2028", "\r\n", " ", "x" * 2000, "{[[[[label]]]]}", "{label and 1 or 2}", "{(label,)}",
    "{premise == premise == premise}", "{premise is None}", "{*premise}", "{**premise}", "{yield}", "{await x}",
    "{x:=1}",
)  # fmt: skip

prompts = st.lists(st.sampled_from(PIECES) | st.text(max_size=6), max_size=5).map("".join)


@fuzzed
@given(prompts, prompts, st.sampled_from(("generate", "two_stage")))
def test_prompts(filled: Cage, asked: str, judged: str, kind: str) -> None:
    document = copy.deepcopy(BASES[kind])
    document["generation"]["rephrase_prompt"] = asked
    document["validation"]["validation_prompt"] = judged
    with filled.fresh() as root:
        config = root / "configs/stage1/odd.json"
        config.write_bytes(odd.json_text(document))
        if filled.call("generate", config, "--dry-run").code == 0:
            filled.call("generate", config, "--limit", 2, "--no-mlflow", "--json")
            assert filled.call("verify").code == 0


@fuzzed
@given(prompts, prompts, st.text(max_size=5) | odd.texts())
def test_perspectives(filled: Cage, reading: str, strategy: str, condition: str) -> None:
    document = copy.deepcopy(BASES["perspectives"])
    document["agent_perspectives"][1] = {"condition": condition, "reading": reading, "strategy": strategy}
    document["data_config"]["sample_size"] = 2
    with filled.fresh() as root:
        config = root / "odd.json"
        config.write_bytes(odd.json_text(document))
        if filled.call("perspectives", config, "--no-mlflow", "--json").code == 0:
            assert filled.call("verify").code == 0
            filled.call("perspectives", "show", "odd", "--condition", condition)
