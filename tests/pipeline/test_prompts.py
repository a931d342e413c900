"""Templates over a record's fields: what they can say, and that they can do nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.prompts import TemplateError, format_examples, judge_fields, parse
from tests.isolation import bounded

RECORD = {
    "premise": "It rained.",
    "choice1": "The street is wet.",
    "choice2": "The street is dry.",
    "label": 1,
    "answer": True,
    "choices": {"text": ["a", "b"], "label": ["A", "B"]},
    "class": "weather",
    "nothing": None,
    "score": 0.5,
}


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        ("", ""),
        ("no field", "no field"),
        ("{premise}", "It rained."),
        ("{ premise }", "It rained."),
        ("<{premise}|{premise}>", "<It rained.|It rained.>"),
        ("{choice1 if label == 0 else choice2}", "The street is dry."),
        ("{label + 1}", "2"),
        ('{["yes", "no"][label]}', "no"),
        ("{'yes' if answer else 'no'}", "yes"),
        ("{choices['text'][0]}", "a"),
        ("{premise[0:2]}", "It"),
        ("{premise + ' ' + choice1}", "It rained. The street is wet."),
        ("{'rain' in premise and label != 0}", "True"),
        ("{'}' + \"{\"}", "}{"),
        ("{'it\\'s }'}", "it's }"),
        ('{"a\\\\"}', "a\\"),
        ("{label * 2 - 7 // 2 % 3}", "2"),
        ("{-label}", "-1"),
        ("{not answer}", "False"),
        ("{class}", "weather"),
        ("{nothing}", "None"),
        ("{score}", "0.5"),
        ("{{literal}} {{{premise}}}", "{literal} {It rained.}"),
        ('{{"answer": {label}}}', '{"answer": 1}'),
        ("{{{{", "{{"),
        ("{{}}", "{}"),
    ],
)
def test_what_a_template_says(template: str, prompt: str) -> None:
    assert parse(template).render(RECORD) == prompt


@pytest.mark.parametrize(
    ("expression", "what"),
    [
        ("premise.__class__", "attribute access"),
        ("premise.upper()", "a call"),
        ("''.__class__.__mro__", "attribute access"),
        ("open('/etc/passwd')", "a call"),
        ("__import__('os')", "a call"),
        ("[x for x in choices]", "ListComp"),
        ("(x for x in premise)", "GeneratorExp"),
        ("lambda: 1", "a lambda"),
        ("f'premise'", "an f-string"),
        ("(x := 1)", "NamedExpr"),
        ("[*premise]", "Starred"),
        ("premise @ premise", "MatMult"),
        ("9 ** 9", "a power"),
        ("...", "..."),
        ("b'bytes'", "b'bytes'"),
        ("1 + 2j", "2j"),
        ("1 << 99", "LShift"),
        ("~label", "Invert"),
        ("label | 1", "BitOr"),
        ("await premise", "Await"),
        ("(yield)", "Yield"),
    ],
)
def test_what_is_refused_when_it_is_read(expression: str, what: str) -> None:
    with pytest.raises(TemplateError, match=rf"line 2, column 3: .* holds {what}, which a prompt may not"):
        parse(f"one\nab{{{expression}}}")


@pytest.mark.parametrize(
    ("template", "what"),
    [
        ("a {premise", "column 3: a { without its }"),
        ("a {'premise}", "neither a field nor an expression"),
        ("a } b", "column 3: a single } means nothing"),
        ("{}", "nothing between the braces"),
        ("{ }", "nothing between the braces"),
        ("{my field}", "neither a field nor an expression"),
        ("{import os}", "neither a field nor an expression"),
        ("{x = 1}", "neither a field nor an expression"),
        ("{premise!r}", "neither a field nor an expression"),
        ("{premise:>10}", "neither a field nor an expression"),
        ("{{1: 2}}}", "a single } means nothing"),
        ("{ {1} }", "a { without its }"),
        ("{\0}", "neither a field nor an expression"),
        ("{" + "(" * 500 + "1" + ")" * 500 + "}", "neither a field nor an expression"),
    ],
)
def test_what_is_no_template(template: str, what: str) -> None:
    with pytest.raises(TemplateError) as caught:
        parse(template)
    assert what in str(caught.value)


@pytest.mark.parametrize(
    "expression",
    [
        "unknown",
        "__builtins__",
        "1 / 0",
        "premise[99]",
        "choices['none']",
        "premise + 1",
        "premise * 3",
        "[0] * 99999",
        "[[0] * 99999] * 99999",
        "'%999999999d' % 1",
        "'%s' % premise",
        "premise - premise",
        "choices + choices",
        "nothing + 1",
        "-premise",
        "premise < 1",
    ],
)
def test_what_cannot_be_evaluated_says_so(expression: str) -> None:
    with pytest.raises(TemplateError) as caught:
        parse(f"{{{expression}}}").render(RECORD)
    assert str(caught.value).startswith(f"{{{expression}}}: ")


@pytest.mark.parametrize(
    "expression",
    [
        "9**9**9",
        "4000000**4000000",
        "1<<(1<<30)",
        "'a'*10**9",
        "[['a'*99999]*99999]*99999",
        "'%999999999999d'%1",
        "(" + "9" * 4000 + ")" + ("*" + "9" * 4000) * 50,
        "+".join(["premise"] * 5000),
        "[" * 80 + "premise" + "]" * 80,
        "-" * 20000 + "1",
        "not " * 5000 + "1",
        "==".join(["premise"] * 3000),
        "'" + "a" * 200_000 + "'" + "+premise" * 20,
    ],
    ids=lambda expression: expression[:20],
)
def test_no_expression_takes_much_time_or_memory(expression: str) -> None:
    # In a process of its own with 30 s of CPU and 1.5 GB: what is not bounded ends it.
    code = (
        "import sys\nfrom pipeline.prompts import TemplateError, parse\n"
        "text = sys.stdin.read()\n"
        "try:\n    print('fine', len(parse('{' + text + '}').render({'premise': 'x' * 1000})))\n"
        "except TemplateError:\n    print('refused')\n"
    )
    assert bounded(code, expression).split()[0] in {"fine", "refused"}


def test_few_shot_examples_stand_literally_where_their_placeholder_is() -> None:
    template = parse("A {{REPHRASE_FEWSHOT}} B {premise}", fewshot="{not a field} }} {{x}}")
    assert template.render(RECORD) == "A {not a field} }} {{x}} B It rained."
    assert template.uses_fewshot
    assert template.names == {"premise"}
    assert not parse("{{ REPHRASE_FEWSHOT }}").uses_fewshot
    assert parse("{{VALIDATION_FEWSHOT}}", fewshot="x").render({}) == "x"


def test_examples_are_texts_or_mappings() -> None:
    assert format_examples([]) == ""
    assert format_examples([" Original: a \n", {"original_text": "b", "verdict": "same"}]) == (
        "Original: a\n\nExample 2:\nOriginal text: b\nVerdict: same"
    )


def test_a_template_knows_the_fields_it_needs() -> None:
    template = parse("{premise} {choice1 if label == 0 else choice2} {{x}} {'text'} {class}")
    assert template.names == {"premise", "choice1", "choice2", "label", "class"}


def test_a_judge_sees_every_field_as_it_was_and_as_it_would_be() -> None:
    assert judge_fields({"premise": "a", "label": 1}, "premise", "b") == {
        "original_premise": "a",
        "original_label": 1,
        "rephrased_premise": "b",
        "rephrased_label": 1,
    }


@given(st.text())
def test_any_text_is_a_template_or_a_template_error(text: str) -> None:
    try:
        template = parse(text)
    except TemplateError:
        return
    assert not template.names or "{" in text


@given(st.text())
def test_literal_braces_round_trip(text: str) -> None:
    assert parse(text.replace("{", "{{").replace("}", "}}")).render({}) == text


@given(st.text(), st.text())
def test_a_records_text_is_never_read_as_a_template(value: str, other: str) -> None:
    assert parse("{a}|{b}").render({"a": value, "b": other}) == f"{value}|{other}"


PIECES = [
    "premise", "label", "choices", "(", ")", "[", "]", "'a'", "1", "9" * 30, ".", "__class__", "+", "-", "*", "/", "%",
    "**", "<<", "if", "else", "for", "in", "x", ":=", ",", ":", "lambda", "not", "and", "==", "f''", "@", "~", "{", "}",
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=12).map(" ".join))
def test_any_expression_has_a_text_or_is_a_template_error(expression: str) -> None:
    try:
        prompt: Any = parse(f"{{{expression}}}").render(RECORD)
    except TemplateError:
        return
    assert isinstance(prompt, str)
    assert "__class__" not in expression
