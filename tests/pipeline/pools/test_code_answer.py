"""The program in an answer: a block, a whole function, or what follows the prompt."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.pools.code_answer import programs

PROMPT = 'from math import gcd\n\n\ndef helper(x):\n    return x\n\n\ndef f(n):\n    """ Half of n.\n    """\n'
WHOLE = "def f(n):\n    return helper(n) // 2\n"
ANSWERS = [
    "    return helper(n) // 2\n",
    "return helper(n) // 2",
    "    half = helper(n) // 2\n\n    return half\n\nThis gives the half.",
    WHOLE,
    f"Sure!\n\n{WHOLE}\nIt divides by two.",
    f"```python\n{WHOLE}```",
    f"``` py\n{WHOLE}```\n\nThen call it:\n\n```python\nprint(f(4))\n```",
    f"First try:\n```python\ndef f(n):\n    return n\n```\nThat is wrong. Better:\n```python\n{WHOLE}```",
    f"```python\n{PROMPT}    return helper(n) // 2\n```",
    "```\n    return helper(n) // 2\n```",
    f"```python\n{WHOLE}",
    f"1. Like this:\n\n   ```python\n   {WHOLE.replace(chr(10), chr(10) + '   ')}\n   ```",
    WHOLE.replace("\n", "\r\n"),
    f"```python\nimport os\n\nHALF = 2\n\n{WHOLE.replace('2', 'HALF')}```",
    "Import:\n```python\nimport math\n```\nThen:\n```python\ndef f(n):\n    return math.floor(n / 2)\n```",
    "```python\ndef half(n):\n    return n // 2\n```\n\n```python\ndef f(n):\n    return half(n)\n```",
    "```python\ndef f(n):\n    return half(n)\n```\n\nwith\n\n```python\ndef half(n):\n    return n // 2\n```",
    f"```python\n{WHOLE}```\nA naive alternative:\n```python\ndef f(n):\n    return n\n```",
    f"Example:\n```python\nresult = f(4)\n```\n```python\n{WHOLE}```",
    f"```bash\npip install numpy\n```\n```python\n{WHOLE}```",
    f"```python\nfrom __future__ import annotations\n\n{WHOLE}```",
    f"from __future__ import annotations\n\n{WHOLE}",
    '```python\ndef f(n):\n    """Half.\n\n    ```\n    f(4)\n    ```\n    """\n    return n // 2\n```',
    '```python\ndef f(n):\n    """Half.\n\n```\nf(4)\n```\n    """\n    return n // 2\n```',
    '```python\ndef f(n):\n    """Half.\n\n    ```python\n    f(4)\n    ```\n    """\n    return n // 2\n```\nDone.',
]


def first_that_compiles(answer: str, prompt: str = PROMPT) -> str:
    for code in programs(answer, prompt, "f"):
        try:
            compile(code, "answer", "exec")
        except SyntaxError:
            continue
        return code
    raise AssertionError(programs(answer, prompt, "f"))


@pytest.mark.parametrize("answer", ANSWERS)
def test_every_form_of_an_answer_is_a_program(answer: str) -> None:
    names: dict[str, Any] = {}
    exec(first_that_compiles(answer), names)
    assert names["f"](10) == 5


def test_an_answer_has_one_try() -> None:
    answer = f"```python\ndef f(n):\n    return n\n```\nOr:\n```python\n{WHOLE}```"
    assert all(WHOLE not in code for code in programs(answer, PROMPT, "f"))


def test_a_prompt_that_is_only_a_signature_is_completed() -> None:
    names: dict[str, Any] = {}
    exec(first_that_compiles(WHOLE.replace("helper", ""), "def f(n):\n"), names)
    assert names["f"](10) == 5


@given(
    st.lists(
        st.sampled_from(["```", "python", "\n", "def f(n):", "    return 1", "x", "~~~", "# "]) | st.text(max_size=9)
    )
)
def test_nothing_that_is_said_breaks_the_reading(pieces: list[str]) -> None:
    found = programs("".join(pieces), PROMPT, "f")
    assert found
    assert all(code.startswith("from math import gcd") for code in found)
