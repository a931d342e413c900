"""Settings that are declared once.

A spec is a frozen pydantic model that forbids unknown keys. YAML loading, the fingerprint, the database row, the
semantic name, MLflow parameters, ``compare``, the docs and ``--json`` all read the declaration; none names a setting.

Every field is part of the identity unless it is marked ``operational`` (it changes how, not what) or ``secret`` (it is
never stored at all). Forgetting a mark costs a needless run; the other way round would cost a wrong reuse.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from annotated_types import Interval
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tracker.fingerprint import Json

_UNSET = object()


def _not_bool(value: object) -> object:
    # YAML's `yes` is true, and pydantic takes true for 1.0.
    if isinstance(value, bool):
        raise ValueError("Input should be a number, not true or false")  # noqa: TRY004  pydantic reports ValueErrors
    return value


def _whole(value: object) -> object:
    # YAML 1.1 reads 1e3 as text, and pydantic takes no exponent for a whole number.
    if isinstance(value, str) and re.fullmatch(r"\s*[-+]?\d+(\.\d*)?[eE]\+?\d{1,2}\s*", value):
        return float(value)
    return _not_bool(value)


Real = Annotated[float, BeforeValidator(_not_bool)]
Whole = Annotated[int, BeforeValidator(_whole), Interval(ge=-(2**63), le=2**63 - 1)]
"""A whole number that a database can hold."""


class Spec(BaseModel):
    """A group of settings, declared once, with bounds and one sentence of help each."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


def setting(
    default: Any = PydanticUndefined,
    *,
    help: str,  # noqa: A002  it is the help text, and every reader of a declaration knows it by that name
    operational: bool = False,
    secret: bool = False,
    abbreviation: str | None = None,
    deprecated: str | None = None,
    absent: object = _UNSET,
    **bounds: Any,
) -> Any:
    """Declares a setting of a Spec.

    ``abbreviation`` puts it into the semantic name (``temp`` gives ``temp07``), ``deprecated`` says why it should go.
    ``absent`` is for a setting that is added later: the value that its absence meant, which is left out of the
    identity so that old fingerprints survive.
    """
    marks: dict[str, Any] = {
        "operational": operational or secret,
        "secret": secret,
        "abbreviation": abbreviation,
        "deprecated": deprecated,
    }
    if absent is not _UNSET:
        marks["absent"] = absent
    return Field(default, description=help, json_schema_extra=marks, **bounds)


def marks(field: FieldInfo) -> Mapping[str, Any]:
    """The marks that ``setting`` put on a field; empty for a plain field."""
    extra = field.json_schema_extra
    return extra if isinstance(extra, dict) else {}


def key_of(name: str, field: FieldInfo) -> str:
    """What a field is called everywhere but in Python: its alias, where it has one.

    ``agent_model: AgentModel = setting(..., alias="model_config")`` is for keys that pydantic keeps for itself.
    """
    return field.alias or name


def identity(spec: Spec) -> dict[str, Json]:
    """The settings of ``spec`` that shape the result, nested as declared, ready for ``fingerprint.identify``."""
    found: dict[str, Json] = {}
    for name, field in type(spec).model_fields.items():
        mark, value = marks(field), getattr(spec, name)
        if mark.get("operational"):
            continue
        if "absent" in mark and value == mark["absent"]:
            continue
        found[key_of(name, field)] = identity(value) if isinstance(value, Spec) else _plain(value)
    return found


def settings(spec: Spec, prefix: str = "") -> dict[str, Json]:
    """Every setting of ``spec`` but the secrets, under its dotted name (``generation.temperature``)."""
    found: dict[str, Json] = {}
    for name, field in type(spec).model_fields.items():
        key, value = f"{prefix}{key_of(name, field)}", getattr(spec, name)
        if marks(field).get("secret"):
            continue
        if isinstance(value, Spec):
            found |= settings(value, f"{key}.")
        else:
            found[key] = _plain(value)
    return found


def public(spec: Spec) -> dict[str, Json]:
    """Every setting of ``spec`` but the secrets, nested as in YAML; settings that are not given (None) are left out."""
    found: dict[str, Json] = {}
    for name, field in type(spec).model_fields.items():
        value = getattr(spec, name)
        if marks(field).get("secret") or value is None:
            continue
        found[key_of(name, field)] = public(value) if isinstance(value, Spec) else _plain(value)
    return found


def name_parts(spec: Spec) -> Iterator[str]:
    """The pieces of the semantic name in the order of declaration: ``temp07``, ``topp10``."""
    for name, field in type(spec).model_fields.items():
        value, abbreviation = getattr(spec, name), marks(field).get("abbreviation")
        if isinstance(value, Spec):
            yield from name_parts(value)
        elif abbreviation is not None and value is not None:
            yield f"{abbreviation}{_short(value)}"


def _short(value: object) -> str:
    if isinstance(value, float):
        return (
            f"{value:.10f}".rstrip("0").replace(".", "") if not value.is_integer() else f"{value:.1f}".replace(".", "")
        )
    text = str(value).rsplit("/", 1)[-1].lower()
    return "".join(char for char in text if char.isascii() and char.isalnum())


def _plain(value: object) -> Json:
    if isinstance(value, Spec):
        return identity(value)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
