"""JSON Schemas of config files, made from the typed schema, for editors that complete and check keys.

`schemas` makes those of the engine's keys and targets, `own_schema` the one of the targets of a user's own parts, so
that a new part of a user changes no file of the engine. A file may hold any part of a config, so nothing is required;
any value may be an interpolation or `???`.
"""

import ast
import collections.abc
import dataclasses
import inspect
import itertools
import math
import os
import textwrap
import types
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from omegaconf import OmegaConf

from reprise.config.checking import Range
from reprise.config.schema import DataConfig, ExperimentConfig, ModelConfig, TrainingConfig
from reprise.config.targets import find_target, parameters_of
from reprise.errors import InputError

_PLACEHOLDER = {"type": "string", "pattern": r"\$\{|^\?\?\?$"}
_DEFAULTS = {"description": "Hydra's defaults list.", "type": "array"}
_KINDS = {int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null"}
_ARGUMENTS = {"$ref": "#/definitions/arguments"}
_TARGET = {
    "type": "object",
    "allOf": [_ARGUMENTS],
    "properties": {"_target_": {"type": "string", "description": "Dotted path of a function or class."}},
}
_PROVIDED = {"seed", "params", "lr", "optimizer", "total_steps", "self"}


def schemas(targets: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the schemas by file name, with the arguments of each of `targets`, which are dotted paths."""
    named = {"type": "object", "additionalProperties": {"anyOf": [_TARGET, {"type": "null"}, _PLACEHOLDER]}}
    whole = _of_dataclass(ExperimentConfig)
    whole["properties"] |= dict.fromkeys(("metrics", "callbacks", "tracker"), named)
    whole["properties"] |= {"hydra": {"type": "object", "description": "Hydra's own settings."}}
    found = {
        "train.json": whole,
        "data.json": _of_dataclass(DataConfig),
        "model.json": _of_dataclass(ModelConfig),
        "training.json": _of_dataclass(TrainingConfig),
        "components.json": {**named, "properties": {"defaults": _DEFAULTS}},
        "component.json": _TARGET,
    }
    common = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "definitions": {"arguments": {"allOf": _arguments(targets)}},
    }
    return {name: common | schema for name, schema in found.items()}


def own_schema(targets: Iterable[str]) -> dict[str, Any]:
    """Return one schema for any config file: wherever a section names one of `targets`, its arguments are checked."""
    section: dict[str, Any] = {"$ref": "#/definitions/section"}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "definitions": {"section": {"allOf": _arguments(targets), "additionalProperties": section}},
        **section,
    }


def targets_in(config_dir: Path) -> list[str]:
    """Return the dotted paths that the files below `config_dir`, but for those of `hydra/`, name as `_target_`."""
    files = [Path(folder, name) for folder, _, names in os.walk(config_dir, followlinks=True) for name in names]
    return sorted(
        {
            path
            for file in files
            if file.suffix == ".yaml" and (config_dir / "hydra") not in file.parents
            for path in _named(OmegaConf.to_container(OmegaConf.load(file), resolve=False))
        }
    )


def _of_dataclass(schema: type) -> dict[str, Any]:
    hints, about = typing.get_type_hints(schema, include_extras=True), _about(schema)
    properties: dict[str, Any] = {"defaults": _DEFAULTS}
    is_open = False
    for field in dataclasses.fields(schema):
        key = field.metadata.get("key", field.name)
        if key == "*":
            is_open = True
        elif dataclasses.is_dataclass(hints[field.name]):
            properties[key] = _of_dataclass(hints[field.name])
        elif field.name in ("optimizer", "scheduler"):
            properties[key] = _TARGET
        else:
            properties[key] = {"description": about[field.name]} if field.name in about else {}
            properties[key] |= _of_annotation(hints[field.name])
    made: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": is_open}
    return made | {"allOf": [_ARGUMENTS]} if is_open else made


def _arguments(targets: Iterable[str]) -> list[dict[str, Any]]:
    """Return what each target adds to the object that names it."""
    found = []
    for path in sorted(targets):
        try:
            parameters, hints, _ = parameters_of(find_target(path))
        except InputError:
            continue  # of an extra that is not installed here
        properties = {name: _of_annotation(hints.get(name, Any)) for name in parameters if name not in _PROVIDED}
        named = {"type": "object", "properties": {"_target_": {"const": path}}, "required": ["_target_"]}
        found.append({"if": named, "then": {"properties": properties}})
    return found


def _named(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        if isinstance(value.get("_target_"), str):
            yield value["_target_"]
        for item in value.values():
            yield from _named(item)


def _of_annotation(annotation: Any) -> dict[str, Any]:
    if annotation is Any:
        return {}
    options = _options(annotation)
    return {} if {} in options else {"anyOf": [*options, _PLACEHOLDER]}


def _options(annotation: Any) -> list[dict[str, Any]]:
    """Return the schemas of which a value must fit one; an empty one where the annotation is not known."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        bounds = [item for item in arguments[1:] if isinstance(item, Range)]
        return [option | _bounds(bounds) for option in _options(arguments[0])]
    if origin in (Union, types.UnionType):
        return [option for argument in arguments for option in _options(argument)]
    if origin is Literal:
        return [{"enum": list(arguments)}]
    if annotation in _KINDS:
        return [{"type": _KINDS[annotation]}]
    container = origin or annotation
    if container in (list, tuple, collections.abc.Sequence, collections.abc.Iterable):
        items = _of_annotation(arguments[0]) if arguments and container is not tuple else {}
        return [{"type": "array", "items": items}]
    if container in (dict, collections.abc.Mapping):
        return [{"type": "object"}]
    return [{}]


def _bounds(ranges: Sequence[Range]) -> dict[str, float]:
    words = {"min": "minimum", "max": "maximum", "above": "exclusiveMinimum", "below": "exclusiveMaximum"}
    return {
        word: bound for item in ranges for name, word in words.items() if math.isfinite(bound := getattr(item, name))
    }


def _about(schema: type) -> dict[str, str]:
    """Return the text that stands under each field of a dataclass, by its name."""
    (body,) = (
        node.body
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(schema))))
        if isinstance(node, ast.ClassDef)
    )
    return {
        field.target.id: text.value.value.replace("\n", " ")
        for field, text in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
