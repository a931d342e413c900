"""The program in a model's answer to a task that asks for one. It is parsed where it is run, and never here."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass

_FENCE = re.compile(r"([ \t]*)(`{3,}|~{3,})[^\n`]*")
_FUTURE = re.compile(r"^[ \t]*from __future__ import [^\n]*\n?", re.MULTILINE)
_RETRACTED = re.compile(r"\b(?:wrong|incorrect|mistake|bug|buggy|error|fix|fixed|corrected|wait|oops)\b", re.IGNORECASE)
_DEFINITION = re.compile(r"(?:def|class|import|from|async def)\b.*|[@#)\]}].*|\w+\s*(?::[^=]*)?=(?!=).*")
_CODE_LINE = re.compile(
    r"(?:def|class|import|from|async def|if|for|while|try|with|return)\b.*|[@#)\]}].*|\w+\s*[=(\[:].*"
)


@dataclass(frozen=True)
class _Block:
    before: str
    code: str


def programs(answer: str, prompt: str, entry_point: str) -> tuple[str, ...]:
    """The readings of an answer as a whole program, the likeliest first: the first that compiles is meant.

    An answer is a block between fences, a whole function or what follows the prompt; the prompt comes first in each,
    for tests may use what it defines. Of several blocks that define the function the first is meant, unless what is
    said behind it takes it back; what other blocks import and define comes with it. One answer has one try: a later
    reading is there for what is no Python, and not for what goes wrong.
    """
    text = answer.replace("\r\n", "\n")
    defines = re.compile(rf"^[ \t]*(?:async )?def {re.escape(entry_point)}\b", re.MULTILINE)
    blocks = _blocks(text)
    whole = [each for each in blocks if defines.search(each.code)]
    if not whole:
        chosen, others = "\n".join(each.code for each in blocks) if blocks else text, ""
    else:
        chosen = next((each for each in reversed(whole[1:]) if _RETRACTED.search(each.before)), whole[0]).code
        rest = [textwrap.dedent(each.code) for each in blocks if each not in whole]
        others = "\n".join(each for each in rest if _only_defines(each, entry_point))
    found = []
    if defines.search(chosen):
        alone = [textwrap.dedent(chosen), textwrap.dedent(_code(chosen))]
        joined = [f"{others}\n\n{each}" for each in alone] if others else []
        found += [_after(prompt, each) for each in (*joined, *alone)]
    else:
        for each in (chosen, _continued(chosen)):
            body = textwrap.indent(textwrap.dedent(each.strip("\n")), "    ")
            found += [prompt + each, f"{prompt.rstrip()}\n{body}\n"]
    return tuple(dict.fromkeys(found))


def _blocks(text: str) -> list[_Block]:
    """What stands between fences, and the text before each since the last."""
    lines, found = text.split("\n"), []
    at = since = 0
    while at < len(lines):
        fence = _FENCE.fullmatch(lines[at])
        if fence is None:
            at += 1
            continue
        end = _closed(lines, at + 1, fence)
        found.append(_Block("\n".join(lines[since:at]), "".join(f"{line}\n" for line in lines[at + 1 : end])))
        at = since = end + 1
    return found


def _closed(lines: list[str], start: int, fence: re.Match[str]) -> int:
    """The line that closes a fence: not one deeper in the code, nor one in a docstring if another comes behind it."""
    first, is_quoted = None, False
    for at in range(start, len(lines)):
        line = lines[at]
        if line.strip() and set(line.strip()) == {fence[2][0]} and len(line.strip()) >= len(fence[2]):
            if len(line) - len(line.lstrip()) <= len(fence[1]):
                if not is_quoted:
                    return at
                first = at if first is None else first
        elif (line.count('"""') + line.count("'''")) % 2:
            is_quoted = not is_quoted
    return len(lines) if first is None else first


def _only_defines(code: str, entry_point: str) -> bool:
    tops = [line for line in code.split("\n") if line.strip() and not line[0].isspace()]
    calls = re.compile(rf"\b{re.escape(entry_point)}\(")
    return all(_DEFINITION.fullmatch(line) and not calls.search(line) for line in tops)


def _after(prompt: str, code: str) -> str:
    # What a prompt only begins is defined once more below it; Python takes __future__ from the top alone.
    future = "".join(f"{line.strip()}\n" for line in _FUTURE.findall(code))
    return f"{future}{prompt.rstrip()}\n    pass\n\n\n{_FUTURE.sub('', code)}"


def _code(text: str) -> str:
    """``text`` without the sentences around the code: from the first line of code on, to the first that is none."""
    lines = text.split("\n")
    start = next(
        (at for at, line in enumerate(lines) if re.match(r"(?:def|class|import|from|async def|@)\b|@", line)), 0
    )
    return _continued("\n".join(lines[start:]))


def _continued(text: str) -> str:
    kept: list[str] = []
    for line in text.split("\n"):
        if kept and line.strip() and not line[0].isspace() and not _CODE_LINE.fullmatch(line):
            break
        kept.append(line)
    return "\n".join(kept)
