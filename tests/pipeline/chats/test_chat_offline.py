"""The offline chat: the same answer everywhere, both verdicts, and a temperature that does something."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.chats.chat import Answer, ChatRequest, Message
from pipeline.chats.chat_offline import FINISH_REASON, OFFLINE_MODEL, OfflineChat
from pipeline.chats.offline_rules import rewrite, same
from pipeline.chats.offline_words import opposites, participles, synonyms

SAMPLE = Path(__file__).parents[3] / "configs" / "sample" / "Copa"
PREMISES = [
    json.loads(line)["premise"] for line in (SAMPLE / "copa_train.jsonl").read_text(encoding="utf-8").splitlines()
]


def ask(
    about: dict[str, str], *, temperature: float | None = 0.7, prompt: str = "Rephrase.", sample: int = 0
) -> Answer:
    request = ChatRequest(
        endpoint="offline",
        model=OFFLINE_MODEL,
        messages=(Message("user", f"{prompt} {' '.join(about.values())}"),),
        settings={"temperature": temperature},
        sample_index=sample,
        about=about,
    )
    return asyncio.run(OfflineChat().complete(request, timeout=1))


def rephrase(text: str, *, temperature: float | None = 0.7, prompt: str = "Rephrase.", sample: int = 0) -> str:
    return ask({"task": "rephrase", "text": text}, temperature=temperature, prompt=prompt, sample=sample).text


def judge(original: str, rephrased: str) -> str:
    return ask({"task": "judge", "original": original, "rephrased": rephrased}, temperature=0).text


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def test_what_a_sentence_becomes() -> None:
    assert rewrite("The landlord lowered the rent.", seed=1, temperature=0) == "The landlord reduced the rent."
    assert rewrite("The lad didn't smile.", seed=1, temperature=0) == "The lad did not smile."
    assert rewrite("An old car stopped.", seed=1, temperature=0) == "An old automobile stopped."
    assert rewrite("A car stopped!", seed=1, temperature=0) == "An automobile stopped!"


@pytest.mark.parametrize(
    ("text", "moved"),
    [
        ("The wind blew the tent away.", "The tent was blown away by the wind."),
        ("The mouse ate when it rained.", "When it rained, the mouse ate."),
        ("When it rained, the mouse ate.", "The mouse ate when it rained."),
        ("Ann put on the hat.", "Ann put the hat on."),
    ],
)
def test_a_clause_moves_at_some_seed_and_the_judge_agrees(text: str, moved: str) -> None:
    assert moved in {rewrite(text, seed=seed, temperature=0.5) for seed in range(200)}
    assert same(text, moved)


def test_a_drift_keeps_its_article_right() -> None:
    drifts = {rewrite("Lena wore an old hat.", seed=seed, temperature=1.5) for seed in range(200)}
    assert "Lena wore a new hat." in drifts
    assert not same("Lena wore an old hat.", "Lena wore a new hat.")


@pytest.mark.parametrize(
    ("original", "rephrased", "verdict"),
    [
        ("The landlord lowered the rent.", "The rent was reduced by the landlord.", "same"),
        ("The girl quickly closed the window.", "The girl shut the window slowly.", "not the same"),
        ("The lake froze during the night.", "The lake iced over.", "not the same"),
        ("My neighbor didn\u2019t answer the phone.", "My neighbor answered the phone.", "not the same"),
        ("The boy cried.", "It so happened that the boy wept.", "same"),
        ("", "", "same"),
        ("The boy cried.", "", "not the same"),
    ],
)
def test_known_verdicts(original: str, rephrased: str, verdict: str) -> None:
    assert judge(original, rephrased) == verdict


def test_the_sample_gets_new_words_and_both_verdicts() -> None:
    answers = {premise: rephrase(premise) for premise in PREMISES}
    verdicts = [judge(premise, text) for premise, text in answers.items()]
    assert all(premise != text for premise, text in answers.items())
    assert set(verdicts) == {"same", "not the same"}
    assert verdicts.count("not the same") < len(verdicts) / 4


def test_temperature_zero_keeps_the_meaning_and_ignores_the_prompt() -> None:
    for premise in PREMISES:
        text = rephrase(premise, temperature=0)
        assert text == rephrase(premise, temperature=0, prompt="Otherwise.", sample=3)
        assert text != premise
        assert judge(premise, text) == "same"


def test_a_higher_temperature_changes_and_drifts_more() -> None:
    def changed(temperature: float) -> tuple[int, int]:
        pairs = [(one, rephrase(one, temperature=temperature, sample=n)) for one in PREMISES for n in range(10)]
        return sum(len(words(text) - words(one)) for one, text in pairs), sum(not same(*pair) for pair in pairs)

    (few_words, few_drifts), (many_words, many_drifts) = changed(0.2), changed(1.2)
    assert few_words < many_words
    assert few_drifts < many_drifts


def test_prompt_sample_and_temperature_each_change_the_answers() -> None:
    base = [rephrase(premise) for premise in PREMISES]
    assert base == [rephrase(premise) for premise in PREMISES]
    assert base != [rephrase(premise, prompt="Otherwise.") for premise in PREMISES]
    assert base != [rephrase(premise, sample=1) for premise in PREMISES]
    assert base != [rephrase(premise, temperature=0.8) for premise in PREMISES]


def test_another_process_with_other_hash_seeds_gives_the_same_answers() -> None:
    code = (
        "import json, sys; from pipeline.chats.offline_rules import rewrite\n"
        "print(json.dumps([rewrite(text, seed=7, temperature=0.9) for text in json.load(sys.stdin)]))"
    )
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            input=json.dumps(PREMISES),
            env={"PYTHONHASHSEED": hash_seed},
            cwd=SAMPLE.parents[2],
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(done.stdout) == [rewrite(text, seed=7, temperature=0.9) for text in PREMISES]


def test_the_answer_says_that_it_is_no_llm_and_estimates_tokens() -> None:
    answer = ask({"task": "rephrase", "text": "The café closed."})
    assert answer.finish_reason == FINISH_REASON == "offline rule-based rewriter, no LLM"
    assert answer.tokens_estimated
    assert answer.completion_tokens == -(-len(answer.text.encode()) // 4)
    assert answer.prompt_tokens > answer.completion_tokens


@pytest.mark.parametrize(
    "text", ["Zoë's fiancé bought jalapeños.", "Der Hund läuft über die Straße.", "猫が寝ている。"]
)
def test_unicode_survives(text: str) -> None:
    rewritten = rephrase(text)
    assert {word for word in words(text) if not word.isascii()} <= words(rewritten)
    assert judge(text, rewritten) == "same"


@pytest.mark.parametrize("text", ["", "   ", "...", "...and so on. \n\nNo? (Yes.) ", "3.5 miles", "do cats sleep"])
def test_text_without_known_words_comes_back_whole(text: str) -> None:
    assert rephrase(text) == text


def test_an_unknown_task_gets_its_text_rewritten_after_the_condition() -> None:
    answer = ask({"task": "respond", "text": "The child cried.", "condition": "Low Effort"}, temperature=0)
    assert answer.text == "[Low Effort] The kid cried."
    assert ask({}, prompt="The child cried.", temperature=0).text.strip() == "The kid cried."


def test_no_form_stands_in_two_groups_and_every_table_has_its_inverse() -> None:
    assert len(synonyms()) > 300
    assert all(other.lstrip("!") in synonyms() for word in synonyms().values() for other in word.others)
    assert all(opposites()[opposite] == word for word, opposite in opposites().items())
    assert participles()["blew"] == "blown"
