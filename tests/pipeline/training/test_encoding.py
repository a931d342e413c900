"""Questions as tokens: where an option begins under tokenizers that merge across it, and what a cut leaves."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.training.encoding import Encoded, encode
from pipeline.training.tasks import Question

BOS, EOS = 1, 2
Split = Callable[[str], list[str]]


def number(token: str) -> int:
    """The token's text as a number above those of BOS and EOS; it can be read back."""
    return int.from_bytes(b"\1" + token.encode("utf-8"), "big") + EOS


def text_of(ids: Sequence[int]) -> str:
    each = (value - EOS for value in ids if value not in (BOS, EOS))
    return b"".join(value.to_bytes((value.bit_length() + 7) // 8, "big")[1:] for value in each).decode("utf-8")


def characters(text: str) -> list[str]:
    return list(text)


def words(text: str) -> list[str]:
    """A blank belongs to the word after it, and signs merge with the newlines after them, as in Llama's vocabulary."""
    return re.findall(r" ?[^\W_]+|[^\w ]+\n*|[\s_]", text)


def threes(text: str) -> list[str]:
    """Three characters at a time: an option often begins within the prompt's last token."""
    return [text[at : at + 3] for at in range(0, len(text), 3)]


def tokenizer(split: Split, *, bos: bool = False, eos: bool = False) -> Callable[[str], list[int]]:
    def tokenize(text: str) -> list[int]:
        return [*([BOS] * bos), *map(number, split(text)), *([EOS] * eos)]

    return tokenize


def parts(encoded: Encoded) -> list[tuple[str, str]]:
    """Each candidate's text before and from the start of its option."""
    pairs = zip(encoded.sequences, encoded.starts, strict=True)
    return [(text_of(sequence[:start]), text_of(sequence[start:])) for sequence, start in pairs]


def test_the_blank_before_an_option_belongs_to_it() -> None:
    encoded = encode(Question("It rained so ", ("I ran.", "we sat "), 1), tokenizer(words), max_length=50)
    assert parts(encoded) == [("It rained so", " I ran."), ("It rained so", " we sat")]
    assert (encoded.starts, encoded.answer, encoded.truncated) == ((3, 3), 1, False)


def test_the_newline_at_the_end_of_a_prompt_belongs_to_it() -> None:
    encoded = encode(Question("Yes or no?\n", ("Yes", "No"), 0), tokenizer(words), max_length=50)
    assert parts(encoded) == [("Yes or no?\n", "Yes"), ("Yes or no?\n", "No")]


def test_a_token_that_holds_the_end_of_the_prompt_belongs_to_the_option() -> None:
    encoded = encode(Question("ab?", ("\nyes", "def"), 0), tokenizer(words), max_length=50)
    assert parts(encoded) == [("ab", "?\nyes"), ("ab?", "def")]
    assert encoded.starts == (1, 2)


@pytest.mark.parametrize("bos", [False, True])
def test_all_candidates_lose_the_same_tokens_at_the_left(bos: bool) -> None:
    question = Question("abcdefgh", ("xyz", "u"), 0)
    encoded = encode(question, tokenizer(characters, bos=bos), max_length=7 + bos)
    assert parts(encoded) == [("efgh", "xyz"), ("efgh", "u")]
    assert (encoded.starts, encoded.truncated) == ((4 + bos, 4 + bos), True)
    assert [sequence[0] == BOS for sequence in encoded.sequences] == [bos, bos]


def test_what_just_fits_is_whole() -> None:
    question, tokenize = Question("abcd", ("xyz", "u"), 0), tokenizer(characters, bos=True)
    assert not encode(question, tokenize, max_length=8).truncated
    assert encode(question, tokenize, max_length=7).truncated


def test_of_a_prompt_no_more_is_cut_than_leaves_a_token_before_the_option() -> None:
    question = Question("abcd", ("xyz", "u"), 0)
    assert parts(encode(question, tokenizer(characters), max_length=4)) == [("d", "xyz"), ("d", "u")]
    with_bos = encode(question, tokenizer(characters, bos=True), max_length=4)
    assert (parts(with_bos), with_bos.starts) == ([("", "xyz"), ("", "u")], (1, 1))
    for bos in (False, True):
        with pytest.raises(ValueError, match="an option alone does not fit into 3 tokens"):
            encode(question, tokenizer(characters, bos=bos), max_length=3)


def test_what_begins_every_text_stays_however_many_tokens_it_is() -> None:
    def tokenize(text: str) -> list[int]:
        return [BOS, EOS, *map(number, text)]

    question = Question("abcd", ("xyz", "u"), 0)
    encoded = encode(question, tokenize, max_length=5)
    assert (encoded.starts, [sequence[:2] for sequence in encoded.sequences]) == ((2, 2), [(BOS, EOS)] * 2)
    with pytest.raises(ValueError, match="an option alone does not fit into 4 tokens"):
        encode(question, tokenize, max_length=4)


def test_an_end_token_that_the_tokenizer_adds_is_removed() -> None:
    question = Question("It rained so ", ("I ran.", "we sat."), 0)
    plain = encode(question, tokenizer(words, bos=True), max_length=50)
    assert encode(question, tokenizer(words, bos=True, eos=True), max_length=50, eos=EOS) == plain
    short = encode(question, tokenizer(words, bos=True), max_length=5)
    assert encode(question, tokenizer(words, bos=True, eos=True), max_length=5, eos=EOS) == short
    assert short.truncated


def test_a_first_token_that_is_also_the_end_token_stays() -> None:
    """As OPT's: one token begins every text and would end it."""
    encoded = encode(Question("abcd", ("xyz", "u"), 0), tokenizer(characters, bos=True), max_length=6, eos=BOS)
    assert (parts(encoded), encoded.sequences[0][0]) == ([("cd", "xyz"), ("cd", "u")], BOS)


def test_an_option_without_tokens_of_its_own_is_refused() -> None:
    def first_word(text: str) -> list[str]:
        return text.split()[:1]

    with pytest.raises(ValueError, match="an option has no tokens of its own"):
        encode(Question("one ", ("two", "three"), 0), tokenizer(first_word), max_length=50)


def test_an_option_with_nothing_before_it_is_refused() -> None:
    with pytest.raises(ValueError, match="an option has no token before it"):
        encode(Question("a", ("b", "c"), 0), tokenizer(threes), max_length=50)
    assert encode(Question("a", ("b", "c"), 0), tokenizer(threes, bos=True), max_length=50).starts == (1, 1)


LETTERS = st.text(st.sampled_from("aB1 \n.?é\u2028𝄞"), max_size=40)
TEXTS = LETTERS.filter(lambda text: bool(text.strip()))
QUESTIONS = st.builds(Question, TEXTS, st.lists(TEXTS, min_size=2, max_size=5).map(tuple), st.integers(-1, 1))


@given(QUESTIONS, st.sampled_from([characters, words, threes]), st.booleans(), st.booleans(), st.integers(0, 60))
def test_an_encoded_question_is_its_text(question: Question, split: Split, bos: bool, eos: bool, room: int) -> None:
    tokenize = tokenizer(split, bos=bos, eos=eos)
    texts = [(question.prompt + candidate).strip(" ") for candidate in question.candidates]
    prompt = question.prompt.strip(" ")
    if not bos and any(split(text)[:1] != split(prompt)[:1] for text in texts):
        with pytest.raises(ValueError, match="an option has no token before it"):
            encode(question, tokenize, max_length=1000, eos=EOS)
        return
    whole = encode(question, tokenize, max_length=1000, eos=EOS)
    assert [first + second for first, second in parts(whole)] == texts
    assert all(prompt.startswith(first) for first, _ in parts(whole))
    longest = max(len(each) - start for each, start in zip(whole.sequences, whole.starts, strict=True))
    max_length = longest + max(whole.starts) - min(whole.starts) + 1 + room
    encoded = encode(question, tokenize, max_length=max_length, eos=EOS)
    first = min(encoded.starts)
    assert first >= 1
    assert len({sequence[:first] for sequence in encoded.sequences}) == 1
    assert max(map(len, encoded.sequences)) <= max_length
    assert [option for _, option in parts(encoded)] == [option for _, option in parts(whole)]
    assert encoded.truncated is (max(map(len, whole.sequences)) > max_length)
    if encoded.truncated:
        assert max(map(len, encoded.sequences)) == max_length
        assert all(kept[0] == BOS for kept in encoded.sequences if bos)
    else:
        assert encoded == whole
    assert EOS not in {value for sequence in encoded.sequences for value in sequence}
