"""YAML for people: what configurations are written as."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from tracker.fingerprint import Json

TAG = "tag:yaml.org,2002:"
FLOAT, FLOAT_BEGINS = r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?", list("-+.0123456789")
"""Numbers as configurations have them, and what they begin with."""
_BLANKS_AT_END = re.compile(r" +$", re.MULTILINE)


def to_yaml(value: Mapping[str, Json]) -> str:
    """``value`` as YAML for people: keys in their order, long texts as blocks."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100))


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, _: Any) -> bool:
        return True

    def analyze_scalar(self, scalar: str) -> Any:
        found = super().analyze_scalar(scalar)
        # PyYAML puts a text with blanks at the end of a line ("Answer: ") into quotes, where a block would keep them.
        found.allow_block = super().analyze_scalar(_BLANKS_AT_END.sub("", scalar)).allow_block
        return found


def _block_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    # Anywhere but in double quotes, U+0085 is read as a plain newline.
    return dumper.represent_scalar(f"{TAG}str", text, style='"' if "\x85" in text else style)


_Dumper.add_representer(str, _block_text)
# PyYAML itself would leave 1.5e3 bare where it is a text: it takes it for none of its numbers.
_Dumper.add_implicit_resolver(f"{TAG}float", re.compile(rf"(?:{FLOAT})\Z"), FLOAT_BEGINS)
