"""Answers as real models write them, each with its verdict: a false `same` would put wrong data into a data set."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.generation.verdict import Verdict, read_verdict

WORDS = ["the", "is", "isn't", "are", "not", "same", "subject", "meaning", ",", ".", "but", "if", "they"]
SAME = [
    "same",
    "Same.",
    "SAME",
    " same\n",
    "The same",
    "**same**",
    "`same`",
    '"Same"',
    "“same”",
    "(same)",
    "[same]",
    "✅ Same",
    "Same!",
    "Same meaning.",
    "Yes, the same.",
    "Answer: same",
    "Verdict: **Same**",
    "**Verdict:** same",
    "The verdict is: same",
    "Final answer: the same.",
    'The answer is "same".',
    "Meaning: same",
    '{"verdict": "same"}',
    "<answer>same</answer>",
    "\\boxed{same}",
    "<think>Not the same? The subject differs, so it is not the same. No wait.</think>\n\nsame",
    "same\n\nThe rephrased sentence keeps what the original says.",
    "Same\nConfidence: 95%",
    "Same. Both sentences describe a shadow on the grass.",
    "Same, because only the wording was changed.",
    "same - the rephrased sentence preserves the meaning",
    "Same (only the voice was changed from active to passive).",
    "Original: It rained.\nRephrased: Rain fell.\nVerdict: same",
    "The passive voice is used in place of the active one.\n\nSame",
    "The meaning is the same.",
    "They mean the same thing.",
    "The two sentences have the same meaning.",
    "Both sentences convey the same meaning, so the answer is same.",
    "The meaning remains the same.",
    "The sentences are essentially the same.",
    "They are the same because only the wording differs.",
    "I would say they are the same.",
    "The rephrased sentence means the same as the original.",
    "The wording is different, but the meaning is the same.",
    "Although the wording differs, the meaning is the same.",
    "Sentence A and sentence B mean the same thing.",
    "The premise was reworded while keeping the same meaning.",
    "The same meaning is preserved.",
]

NOT_THE_SAME = [
    "not the same",
    "Not the same.",
    "NOT THE SAME",
    "not_the_same",
    "not same",
    "**Not the same**",
    "No, not the same.",
    "Verdict: not the same",
    '{"verdict": "not the same"}',
    "Different",
    "Not the same\n\nThe subject is the same, but the action is reversed.",
    "Not the same: the rephrased premise leaves out the couch.",
    "Not the same. The rephrased sentence has the same subject.",
    "Not the same because the coffee is gone.",
    "They are not the same.",
    "The meaning is not the same.",
    "The meaning is no longer the same.",
    "The sentences do not mean the same thing.",
    "They don't have the same meaning.",
    "These aren\u2019t the same.",
    "The meaning isn't quite the same.",
    "Both have the same subject, but the meaning was changed. Not the same.",
    "The result of the action is reversed.\nFinal answer: not the same",
    "<think>They look the same. The meaning is the same.</think>Not the same",
]

UNCLEAR = [
    "",
    "   ",
    "Yes",
    "No",
    "similar",
    "almost the same",
    "Nearly the same.",
    "Partially the same",
    "same-ish",
    "the same but different",
    "Same?",
    "same? No.",
    "same or not the same",
    "same / not the same",
    "Same/Not the same",
    "Not the same/same",
    "same\nnot the same",
    "Not the same.\nSame.",
    "Please answer same or not the same.",
    "No, the same.",
    "Same, but the tense differs.",
    "Same. However, the tone is different.",
    "Verdict: same (though it could be not the same)",
    "At the same time, the man fell.",
    "Both events happen at the same time.",
    "They have the same subject.",
    "The same subject, another action.",
    "The subject is the same.",
    "The subject is the same, but the action differs.",
    "The subject of both sentences is the same.",
    "The setting is the same. The weather is the same.",
    "Subject: same\nTime: same",
    "Is the meaning the same? Yes.",
    "Are they the same? They are.",
    "If the meaning is the same, the label holds.",
    "If the meaning is not the same, the label changes.",
    "I cannot determine whether they are the same.",
    "It is unclear whether the meaning is the same.",
    "Not sure if same.",
    "Not necessarily the same.",
    "I do not think they are the same.",
    "It would be wrong to say they are the same.",
    "One can't say that they are the same.",
    "Neither of the two is the same.",
    "They are hardly the same.",
    "They are far from the same.",
    "While the meaning is the same, the tone differs.",
    "The meaning is the same. However, a detail was added.",
    "The meaning is the same, except for the tense.",
    "The rephrased sentence is the same as before.",
    "They have the same first sentence.",
    "It is not that they are the same.",
    "It is not the same subject.",
    "They do not have the same subject. The meaning is the same.",
    "They do not have the same subject, so they mean the same.",
    "sameness",
    "Samedi",
    "I'm sorry, but I can't help with that.",
    "The rephrased sentence keeps the meaning.",
]


@pytest.mark.parametrize("answer", SAME)
def test_an_answer_that_says_same(answer: str) -> None:
    assert read_verdict(answer) is Verdict.SAME


@pytest.mark.parametrize("answer", NOT_THE_SAME)
def test_an_answer_that_says_not_the_same(answer: str) -> None:
    assert read_verdict(answer) is Verdict.NOT_THE_SAME


@pytest.mark.parametrize("answer", UNCLEAR)
def test_an_answer_that_says_neither_or_both(answer: str) -> None:
    assert read_verdict(answer) is Verdict.UNCLEAR


@given(st.text())
def test_every_text_has_a_verdict_and_without_same_it_is_never_same(answer: str) -> None:
    verdict = read_verdict(answer)
    assert verdict is not Verdict.SAME or "same" in answer.lower().replace("_", " ")


@given(st.lists(st.sampled_from(WORDS)).map(" ".join))
def test_a_negation_is_never_read_as_same(answer: str) -> None:
    if "not same" in answer or "isn't same" in answer:
        assert read_verdict(answer) is not Verdict.SAME
