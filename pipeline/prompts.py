"""Prompt templates over a record's fields.

    {premise}                                   a field
    {choice1 if label == 0 else choice2}        an expression over fields
    {["yes", "no"][label]}                      of constants, operators, comparisons, conditions, indexing, lists
    {{ and }}                                   literal braces
    {{REPHRASE_FEWSHOT}} {{VALIDATION_FEWSHOT}} the formatted few-shot examples

A data set or a shared config can run no code: attribute access, calls and comprehensions are refused when the template
is read, and what is left is evaluated by simpleeval with arithmetic that cannot grow: numbers with numbers, and text
only joined to text.
"""

from __future__ import annotations

import ast
import keyword
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import NoneType
from typing import Any

from tracker.fingerprint import Json

FEWSHOT = {"generation": "REPHRASE_FEWSHOT", "validation": "VALIDATION_FEWSHOT"}

_TOKEN = re.compile(r"\{\{(REPHRASE_FEWSHOT|VALIDATION_FEWSHOT)\}\}|\{\{|\}\}|\{|\}")
_INSIDE = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|[{}]""", re.DOTALL)
_ALLOWED = (
    ast.Expression, ast.Constant, ast.Name, ast.Load, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp,
    ast.Subscript, ast.Slice, ast.List, ast.Tuple, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod,
    ast.UAdd, ast.USub, ast.Not, ast.boolop, ast.cmpop,
)  # fmt: skip
_REFUSED: Mapping[type[ast.AST], str] = {
    ast.Attribute: "attribute access", ast.Call: "a call", ast.Lambda: "a lambda", ast.JoinedStr: "an f-string",
    ast.Pow: "a power",
}  # fmt: skip
_LONGEST = 1_000_000


def _joined(left: Any, right: Any) -> Any:
    if isinstance(left, str) and isinstance(right, str):
        if len(left) + len(right) > _LONGEST:
            raise ValueError(f"a text of more than {_LONGEST:,} characters")
        return left + right
    return _numeric(operator.add)(left, right)


def _numeric(operation: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    # "%999999999d" % 1 and [[...] * 99999] * 99999 are small expressions with values that no memory holds.
    def apply(left: Any, right: Any) -> Any:
        if not (isinstance(left, (int, float)) and isinstance(right, (int, float))):
            raise TypeError(f"{type(left).__name__} and {type(right).__name__} cannot be reckoned with")
        return operation(left, right)

    return apply


_BOUNDED: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: _joined,
    ast.Sub: _numeric(operator.sub),
    ast.Mult: _numeric(operator.mul),
    ast.Div: _numeric(operator.truediv),
    ast.FloorDiv: _numeric(operator.floordiv),
    ast.Mod: _numeric(operator.mod),
}


class TemplateError(ValueError):
    """A template that cannot be read or, for one record, not evaluated."""


@dataclass(frozen=True)
class Expression:
    """What stands between two braces: its text and the names it needs."""

    text: str
    tree: ast.Expression

    @cached_property
    def names(self) -> frozenset[str]:
        return frozenset(node.id for node in ast.walk(self.tree) if isinstance(node, ast.Name))

    def evaluate(self, fields: Mapping[str, Json]) -> str:
        """The expression's value for one record, as text. Raises TemplateError."""
        if isinstance(self.tree.body, ast.Name) and self.text in fields:
            return str(fields[self.text])
        from simpleeval import DEFAULT_OPERATORS, EvalWithCompoundTypes

        evaluator = EvalWithCompoundTypes(names=dict(fields), functions={}, operators={**DEFAULT_OPERATORS, **_BOUNDED})
        try:
            return str(evaluator.eval(self.text, self.tree.body))
        # Whatever arithmetic, indexing or the sandbox objects to is the template's fault, in this record.
        except Exception as error:
            raise TemplateError(f"{{{self.text}}}: {error}") from error


@dataclass(frozen=True)
class Template:
    """A parsed template: texts and expressions in their order."""

    parts: tuple[str | Expression, ...]
    uses_fewshot: bool

    @cached_property
    def names(self) -> frozenset[str]:
        """The fields it needs."""
        found = [part.names for part in self.parts if isinstance(part, Expression)]
        return frozenset().union(*found)

    def render(self, fields: Mapping[str, Json]) -> str:
        """The prompt for one record. Raises TemplateError."""
        return "".join(part if isinstance(part, str) else part.evaluate(fields) for part in self.parts)


def parse(text: str, *, fewshot: str = "") -> Template:
    """The template in ``text``, with ``fewshot`` standing literally where a few-shot placeholder is.

    Raises TemplateError with the place of what is wrong.
    """
    parts: list[str | Expression] = []
    position, uses_fewshot = 0, False
    while match := _TOKEN.search(text, position):
        parts.append(text[position : match.start()])
        found, position = match.group(), match.end()
        if match.group(1):
            parts.append(fewshot)
            uses_fewshot = True
        elif found in {"{{", "}}"}:
            parts.append(found[0])
        elif found == "}":
            raise TemplateError(f"{_place(text, match.start())}: a single }} means nothing; write }}}} for a brace")
        else:
            end = _closing(text, position)
            parts.append(_expression(text[position:end].strip(), _place(text, match.start())))
            position = end + 1
    parts.append(text[position:])
    return Template(tuple(part for part in parts if part != ""), uses_fewshot)


def format_examples(examples: Sequence[str | Mapping[str, Json]]) -> str:
    """Few-shot examples as text: a text stands as it is, a mapping as one line for each of its keys."""
    blocks = []
    for number, example in enumerate(examples, 1):
        if isinstance(example, str):
            blocks.append(example.strip())
            continue
        lines = [f"{str(key).replace('_', ' ').capitalize()}: {value}" for key, value in example.items()]
        blocks.append("\n".join([f"Example {number}:", *lines]))
    return "\n\n".join(blocks)


def judge_fields(record: Mapping[str, Json], field: str, rephrased: str) -> dict[str, Json]:
    """What a validation prompt can name: every field as it was and as it would be."""
    original = {f"original_{name}": value for name, value in record.items()}
    return original | {f"rephrased_{name}": rephrased if name == field else value for name, value in record.items()}


def _closing(text: str, start: int) -> int:
    for found in _INSIDE.finditer(text, start):
        if found.group() == "}":
            return found.start()
        if found.group() == "{":
            break
    raise TemplateError(f"{_place(text, start - 1)}: a {{ without its }}; write {{{{ for a brace")


def _expression(text: str, place: str) -> Expression:
    if not text:
        raise TemplateError(f"{place}: nothing between the braces; write {{{{}}}} for braces")
    if keyword.iskeyword(text) and text not in {"None", "True", "False"}:
        return Expression(text, ast.Expression(ast.Name(text, ast.Load())))  # a field may well be called `class`
    try:
        tree = ast.parse(text, mode="eval")
    # SystemError: what CPython 3.11 says now and then of an expression nested too deeply ("recursion depth mismatch").
    except (SyntaxError, ValueError, RecursionError, MemoryError, SystemError) as error:
        raise TemplateError(
            f"{place}: {{{text:.60}}} is neither a field nor an expression; write {{{{ }}}} for braces"
        ) from error
    for node in ast.walk(tree):
        # A field is JSON; `...` as a constant would be sent as the word Ellipsis.
        odd = isinstance(node, ast.Constant) and not isinstance(node.value, (str, int, float, NoneType))
        if odd or not isinstance(node, _ALLOWED):
            what = ast.unparse(node) if odd else _REFUSED.get(type(node), type(node).__name__)
            raise TemplateError(f"{place}: {{{text:.60}}} holds {what}, which a prompt may not")
    return Expression(text, tree)


def _place(text: str, index: int) -> str:
    line = text.count("\n", 0, index) + 1
    return f"line {line}, column {index - text.rfind(chr(10), 0, index)}"
