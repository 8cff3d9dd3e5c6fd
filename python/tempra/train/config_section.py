"""The base of all configuration sections; pydantic's complaints become `ConfigError`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from tempra._core import ConfigError

SectionType = TypeVar("SectionType", bound="Section")

_SHOWN_ERRORS = 5


class Section(BaseModel):
    """Frozen, strict, without unknown keys; numbers are finite; problems are `ConfigError`."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        validate_default=True,
        hide_input_in_errors=True,
    )

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise translate(type(self), error) from None

    # pydantic would otherwise build nested sections through this constructor, and an error raised
    # there
    # would no longer know the name of its section.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def from_mapping(cls: type[SectionType], values: Mapping[str, Any]) -> SectionType:
        """Check and build from plain values, as read from a file."""
        if not isinstance(values, Mapping):
            raise ConfigError(
                f"{cls.__name__}: got {values!r} ({type(values).__name__}), needs a mapping of "
                "its fields"
            )
        return cls(**dict(values))


def sections_of(model: type[BaseModel]) -> dict[str, type[Section]]:
    """Return the fields of `model` that are sections themselves."""
    found = {}
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            found[name] = field.annotation
    return found


def known_keys(model: type[BaseModel]) -> list[str]:
    """Every key of a configuration in dotted form, in definition order."""
    sections = sections_of(model)
    keys = []
    for name in model.model_fields:
        if name in sections:
            keys += [f"{name}.{field}" for field in sections[name].model_fields]
        else:
            keys.append(name)
    return keys


def suggestion(key: str, known: Sequence[str]) -> str:
    """Return `; did you mean ...?` for the key that is nearest in spelling, or an empty text."""
    leaf = key.rpartition(".")[2]
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.75)
    if not close or "." not in key:
        close = [name for name in known if name.rpartition(".")[2] == leaf] or close
    if not close:
        leaves = {name.rpartition(".")[2]: name for name in known}
        close = [leaves[match] for match in difflib.get_close_matches(leaf, leaves, n=1)]
    sections = dict.fromkeys(name.split(".")[0] for name in known)
    if not close and key.split(".")[0] not in sections:
        close = difflib.get_close_matches(key.split(".")[0], sections, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def unknown_key(model: type[BaseModel], key: str) -> str:
    """Return the message for a key that does not exist in `model`."""
    nested = _listed_section(model, key.split(".")[:-1])
    if nested is not None:
        place, _, leaf = key.rpartition(".")
        near = suggestion(leaf, list(nested.model_fields))
        return (
            f"unknown key {leaf!r} in {place}{near or '; known: ' + ', '.join(nested.model_fields)}"
        )
    is_field = any(name.rpartition(".")[2] == key for name in known_keys(model))
    whole_section = (
        "." not in key and not is_field and difflib.get_close_matches(key, model.model_fields, n=1)
    )
    near = suggestion(key, list(model.model_fields) if whole_section else known_keys(model))
    message = f"unknown key {key!r}{near}"
    if "did you mean" in message:
        return message
    section = key.partition(".")[0]
    if section in sections_of(model):
        return f"{message}; {section!r} has: {', '.join(sections_of(model)[section].model_fields)}"
    return f"{message}; known: {', '.join(model.model_fields)}"


def _listed_section(model: type[BaseModel], path: Sequence[str]) -> type[Section] | None:
    """Return the section at a place such as data.sources.0, an entry of a list of sections."""
    found: type[BaseModel] = model
    for part in path:
        if part.isdigit():
            continue
        field = found.model_fields.get(part)
        kinds = () if field is None else (field.annotation, *get_args(field.annotation))
        inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)]
        if not inner:
            return None
        found = inner[0]
    return found if any(part.isdigit() for part in path) else None  # type: ignore[return-value]


def translate(model: type[BaseModel], error: ValidationError) -> ConfigError:
    """One `ConfigError` naming each field, what was given and what was needed."""
    details = error.errors(include_url=False)
    messages = [_describe(model, dict(detail)) for detail in details[:_SHOWN_ERRORS]]
    if len(details) > _SHOWN_ERRORS:
        messages.append(f"and {len(details) - _SHOWN_ERRORS} more")
    return ConfigError("; ".join(dict.fromkeys(messages)))


def _needed(kind: str, context: Mapping[str, Any], fallback: str) -> str:
    simple = {
        "int_type": "a whole number",
        "int_from_float": "a whole number",
        "float_type": "a finite number",
        "finite_number": "a finite number (not nan, not infinity)",
        "bool_type": "true or false",
        "string_type": "text",
        "tuple_type": "a list",
        "missing": "a value",
        "model_type": "a section with fields",
        "model_attributes_type": "a section with fields",
    }
    if kind in simple:
        return simple[kind]
    templates = {
        "greater_than": "more than {gt}",
        "greater_than_equal": "at least {ge}",
        "less_than": "less than {lt}",
        "less_than_equal": "at most {le}",
        "literal_error": "one of {expected}",
        "enum": "one of {expected}",
        "too_short": "at least {min_length} entries",
        "too_long": "at most {max_length} entries",
        "string_pattern_mismatch": "text that matches {pattern}",
        "string_too_short": "at least {min_length} characters",
    }
    if kind in templates:
        return templates[kind].format(**context)
    return fallback


def _describe(model: type[BaseModel], detail: Mapping[str, Any]) -> str:
    location = [str(part) for part in detail["loc"]]
    key = ".".join(location)
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return unknown_key(model, key)
    if kind == "value_error":  # raised by our own validators, which name the fields themselves
        return str(context["error"])
    if kind == "missing":
        if location[-1].isdigit():
            return f"{'.'.join(location[:-1])}: entry {int(location[-1]) + 1} is missing"
        return f"{key}: is missing and has no default"
    given = detail["input"]
    shown = repr(given)
    if len(shown) > 80:
        shown = shown[:77] + "..."
    needed = _needed(kind, context, detail["msg"])
    return f"{key}: got {shown} ({type(given).__name__}), needs {needed}"
