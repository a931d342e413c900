"""The program in a model's answer to a task that asks for one. It is parsed where it is run, and never here."""

from __future__ import annotations

import re
import textwrap

_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[^\n`]*\n(.*?)(?:^[ \t]*(?:```|~~~)|\Z)", re.DOTALL | re.MULTILINE)
_CODE_LINE = re.compile(
    r"(?:def|class|import|from|async def|if|for|while|try|with|return)\b.*|[@#)\]}].*|\w+\s*[=(\[:].*"
)


def programs(answer: str, prompt: str, entry_point: str) -> tuple[str, ...]:
    """The readings of an answer as a whole program, the likeliest first: the first that compiles is meant.

    An answer is a block between fences, a whole function or what follows the prompt; the prompt comes first in each,
    for tests may use what it defines.
    """
    text = answer.replace("\r\n", "\n")
    defines = re.compile(rf"^[ \t]*(?:async )?def {re.escape(entry_point)}\b", re.MULTILINE)
    blocks = [match[1] for match in _FENCE.finditer(text)]
    whole = [each for each in blocks if defines.search(each)]
    chosen = whole[-1] if whole else "\n".join(blocks) if blocks else text
    found = []
    if defines.search(chosen):
        found += [_after(prompt, textwrap.dedent(each)) for each in (chosen, _code(chosen))]
    else:
        for each in (chosen, _continued(chosen)):
            body = textwrap.indent(textwrap.dedent(each.strip("\n")), "    ")
            found += [prompt + each, f"{prompt.rstrip()}\n{body}\n"]
    return tuple(dict.fromkeys(found))


def _after(prompt: str, code: str) -> str:
    # What a prompt only begins is defined once more below it.
    return f"{prompt.rstrip()}\n    pass\n\n\n{code}"


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
