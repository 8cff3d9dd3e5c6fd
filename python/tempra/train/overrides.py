"""Configuration files (YAML, JSON) and `section.field=value` overrides from the command line."""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import yaml

from tempra._core import ConfigError
from tempra.train.config_section import Section, known_keys, sections_of, unknown_key

ConfigType = TypeVar("ConfigType", bound=Section)

STAGES = "stages"

# A configuration is a page of text; anything larger is some other file.
_LARGEST_FILE = 1 << 20


class _Loader(yaml.SafeLoader):
    """The safe loader, refusing repeated keys and reading `1e-3` as the number it is."""


def _mapping_without_repeats(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        if not isinstance(key, str):
            raise yaml.constructor.ConstructorError(
                None, None, f"key {key!r} is not text", key_node.start_mark
            )
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"key {key!r} is given twice", key_node.start_mark
            )
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_repeats)
# YAML 1.1 wants a dot and a signed exponent in a number; people and YAML 1.2 write 1e-3.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d[\d_]*)(?:\.\d*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


def _parse_yaml(text: str, source: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)  # a subclass of SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{source}{place}: {error.problem or error.context}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(
            f"{source}: cannot be read as YAML: {' '.join(str(error).split())}"
        ) from None


def _json_without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"key {key!r} is given twice")
        result[key] = value
    return result


def _parse_json(text: str, source: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_json_without_repeats)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{source}, line {error.lineno}, column {error.colno}: {error.msg}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{source}: {error}") from None


def read_config_file(path: str | PathLike[str]) -> dict[str, Any]:
    """Return the plain values of a `.yaml`, `.yml` or `.json` file, fields not yet checked."""
    file = Path(path)
    if file.suffix not in (".yaml", ".yml", ".json"):
        raise ConfigError(
            f"{file}: a configuration is a .yaml, .yml or .json file, got "
            f"{file.suffix or 'no ending'}"
        )
    try:
        if file.stat().st_size > _LARGEST_FILE:
            raise ConfigError(
                f"{file}: has {file.stat().st_size} bytes, a configuration has at most "
                f"{_LARGEST_FILE}"
            )
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: is not UTF-8 text (byte {error.start})") from None
    values = (
        _parse_json(text, str(file)) if file.suffix == ".json" else _parse_yaml(text, str(file))
    )
    if values is None:
        raise ConfigError(
            f"{file}: is empty, needs sections such as 'train:' with fields; without --config the "
            "quickstart runs"
        )
    if not isinstance(values, dict):
        raise ConfigError(
            f"{file}: holds a {type(values).__name__}, needs sections such as 'train:' with fields"
        )
    for name, section in list(values.items()):
        if section is None:  # `train:` with nothing below it
            values[name] = {}
    return values


def _alternatives(annotation: Any) -> list[Any]:
    """Return the types an annotation accepts, `Annotated` and `| None` taken apart."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _alternatives(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [kind for part in typing.get_args(annotation) for kind in _alternatives(part)]
    return [annotation]


def _typed(model: type[Section], key: str, text: str) -> Any:
    """Return the value of an override: plain text for text fields, otherwise as YAML reads it."""
    section, _, name = key.partition(".")
    accepted = _alternatives(sections_of(model)[section].model_fields[name].annotation)
    if str in accepted:
        if type(None) in accepted and text in ("null", "none", "None"):
            return None
        return text
    if text.strip() == "":
        raise ConfigError(f"{key}: got nothing after '=', needs a value")
    value = _parse_yaml(text, f"override {key}")
    names = any(
        typing.get_origin(kind) is tuple and str in typing.get_args(kind) for kind in accepted
    )
    return text if names and not isinstance(value, (list, str)) else value


def stage_of(override: str) -> tuple[str | None, str]:
    """`stages.NAME.section.field=value` as (NAME, section.field=value); others have no stage."""
    first, _, rest = override.partition(".")
    name, dot, inner = rest.partition(".")
    if first.strip() != STAGES or not dot or "=" in name:
        return None, override
    return name, inner


def parse_override(model: type[Section], override: str) -> tuple[str, str, Any]:
    """`section.field=value` as (section, field, typed value)."""
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ConfigError(
            f"{override!r}: an override is written section.field=value, such as train.steps=500"
        )
    if key.partition(".")[0] == STAGES and STAGES in model.model_fields:
        raise ConfigError(
            f"{override!r}: a field of a stage is written stages.NAME.section.field=value, such as "
            "stages.instruct.train.steps=500"
        )
    if key not in known_keys(model):
        if key in sections_of(model):
            example = next(iter(sections_of(model)[key].model_fields))
            raise ConfigError(
                f"{override!r}: {key!r} is a section; name a field of it, such as "
                f"{key}.{example}=..."
            )
        raise ConfigError(unknown_key(model, key))
    section, _, name = key.partition(".")
    return section, name, _typed(model, key, text)


def apply_overrides(
    model: type[Section], values: Mapping[str, Any], overrides: Iterable[str]
) -> dict[str, Any]:
    """`values` with every override put in; the same field twice is a contradiction."""
    result: dict[str, Any] = {
        name: dict(section) if isinstance(section, Mapping) else section
        for name, section in values.items()
    }
    given: dict[str, str] = {}
    for override in overrides:
        stage, inner = stage_of(override)
        section, name, value = parse_override(model, inner)
        key = f"{section}.{name}" if stage is None else f"{STAGES}.{stage}.{section}.{name}"
        if key in given:
            raise ConfigError(f"{key}: is given twice: {given[key]!r} and {override!r}")
        given[key] = override
        into = result if stage is None else _values_of_stage(result, stage, override)
        fields = into.setdefault(section, {})
        if not isinstance(fields, dict):
            raise ConfigError(f"{section}: got {fields!r}, needs a section with fields")
        fields[name] = value
    return result


def _values_of_stage(values: dict[str, Any], name: str, override: str) -> dict[str, Any]:
    """Return the values of a stage for changing, each level a copy."""
    stages = values.get(STAGES)
    listed = [dict(each) if isinstance(each, Mapping) else each for each in stages or ()]
    values[STAGES] = listed
    for stage in listed:
        if isinstance(stage, dict) and stage.get("name") == name:
            for section, fields in stage.items():
                stage[section] = dict(fields) if isinstance(fields, Mapping) else fields
            return stage
    names = ", ".join(str(each.get("name")) for each in listed if isinstance(each, dict))
    raise ConfigError(f"{override!r}: there is no stage {name!r}; there are: {names or 'none'}")


def load_config(
    model: type[ConfigType], path: str | PathLike[str] | None = None, overrides: Iterable[str] = ()
) -> ConfigType:
    """Read a configuration file or start from the defaults, apply overrides, check everything."""
    values = {} if path is None else read_config_file(path)
    return model.from_mapping(apply_overrides(model, values, overrides))


def parse_config(model: type[ConfigType], text: str, source: str) -> ConfigType:
    """Check and build from YAML text, as `dump_config` wrote it; `source` names it in errors."""
    values = _parse_yaml(text, source)
    if not isinstance(values, dict):
        raise ConfigError(f"{source}: holds a {type(values).__name__}, needs sections")
    return model.from_mapping(values)


def with_overrides(config: ConfigType, overrides: Iterable[str]) -> ConfigType:
    """Return a changed copy of a configuration, checked anew."""
    return type(config).from_mapping(
        apply_overrides(type(config), chosen_values(config), overrides)
    )


def with_stage_values(
    config: ConfigType, section: str, changes: Mapping[str | None, Mapping[str, Any]]
) -> ConfigType:
    """Return a copy with fields of a section changed in the stages named, None removing a field.

    The stage None is the configuration itself.
    """
    if not changes:
        return config
    values = chosen_values(config)
    for stage, fields in changes.items():
        place = next((s for s in values.get(STAGES, ()) if s["name"] == stage), values)
        into = place.setdefault(section, {})
        into.update(fields)
        for name in [name for name, value in fields.items() if value is None]:
            del into[name]
    return type(config).from_mapping(values)


def chosen_values(config: Section) -> dict[str, Any]:
    """Return plain values as JSON and YAML hold them; fields without a value are left out."""
    values: dict[str, Any] = config.model_dump(mode="json", exclude_none=True)
    return values


def dump_config(config: Section) -> str:
    """Return the configuration as YAML; `load_config` gives the same configuration back."""
    return yaml.safe_dump(chosen_values(config), sort_keys=False, allow_unicode=True)
