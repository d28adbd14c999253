"""Holds plain values against type annotations; used for the config's schema and for the arguments of targets alike."""

import collections.abc
import dataclasses
import math
import types
import typing
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union

from reprise.config.secrets import is_secret
from reprise.errors import Problem
from reprise.text.suggestions import unknown


@dataclass(frozen=True)
class Range:
    """Bounds of a number, for use in `Annotated`."""

    min: float = -math.inf
    max: float = math.inf
    above: float = -math.inf
    """Exclusive lower bound."""
    below: float = math.inf
    """Exclusive upper bound."""

    def __contains__(self, value: float) -> bool:
        return self.min <= value <= self.max and self.above < value < self.below

    def __str__(self) -> str:
        bounds = [("≥", self.min), (">", self.above), ("≤", self.max), ("<", self.below)]
        return " and ".join(f"{sign} {bound:.15g}" for sign, bound in bounds if math.isfinite(bound))


PositiveInt = Annotated[int, Range(min=1)]
NonNegativeInt = Annotated[int, Range(min=0)]
PositiveFloat = Annotated[float, Range(above=0)]
NonNegativeFloat = Annotated[float, Range(min=0)]
Fraction = Annotated[float, Range(min=0, max=1)]
Probability = Annotated[float, Range(min=0, below=1)]

_WORDS = {int: "an integer", float: "a number", str: "a text", bool: "true or false", type(None): "null"}
MISSING = "???"


def conform(value: Any, annotation: Any, key: str, problems: list[Problem]) -> Any:
    """Return `value` as `annotation` wants it, an integer as a float say; report in `problems` what does not fit.

    Annotations this function does not know are not checked.
    """
    if isinstance(value, str) and value == MISSING:
        problems.append(
            Problem(key, f"missing: expected {describe(annotation)}; set it in a config file or as {key}=…")
        )
        return value
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        return _conform_dataclass(value, annotation, key, problems)
    fits, result = _fit(value, annotation, key, problems)
    if not fits:
        given = "something else" if is_secret(key) else f"{show(value)}{_advice(value, annotation, key)}"
        message = f"expected {describe(annotation)}, got {given}"
        problems.append(Problem(key, message))
    return result


def describe(annotation: Any) -> str:
    """Return an annotation in words: "an integer ≥ 1 or null"."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        bounds = " ".join(str(item) for item in arguments[1:] if isinstance(item, Range))
        return f"{describe(arguments[0])} {bounds}".strip()
    if origin in (Union, types.UnionType):
        return " or ".join(describe(argument) for argument in arguments)
    if origin is Literal:
        return " or ".join(repr(argument) for argument in arguments)
    if annotation in _WORDS:
        return _WORDS[annotation]
    if _is_sequence(origin or annotation):
        return "a list" + (f" of which each is {describe(arguments[0])}" if arguments else "")
    if _is_mapping(origin or annotation) or dataclasses.is_dataclass(annotation):
        return "a mapping"
    return str(getattr(annotation, "__name__", annotation))


def _fit(value: Any, annotation: Any, key: str, problems: list[Problem]) -> tuple[bool, Any]:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        fits, result = _fit(value, arguments[0], key, problems)
        in_range = all(result in item for item in arguments[1:] if isinstance(item, Range)) if fits else False
        return fits and in_range, result
    if origin in (Union, types.UnionType):
        for argument in arguments:
            inner: list[Problem] = []
            fits, result = _fit(value, argument, key, inner)
            if fits and not inner and (_is_known(argument) or isinstance(value, argument)):
                return True, result
        return any(not _is_known(argument) and not isinstance(argument, type) for argument in arguments), value
    if origin is Literal:
        return any(value == argument and type(value) is type(argument) for argument in arguments), value
    if annotation is float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and math.isfinite(value), float(value) if is_number else value
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool), value
    if annotation in (str, bool, type(None)):
        return isinstance(value, annotation), value
    container = origin or annotation
    if _is_sequence(container):
        if not isinstance(value, list | tuple):
            return False, value
        fixed_length = container is tuple and arguments and arguments[-1] is not Ellipsis
        each = list(arguments) if fixed_length else [arguments[0] if arguments else Any] * len(value)
        if len(each) != len(value):
            return False, value
        items = (conform(v, a, f"{key}[{i}]", problems) for i, (v, a) in enumerate(zip(value, each, strict=True)))
        return True, tuple(items) if container is tuple else list(items)
    if _is_mapping(container):
        if not isinstance(value, dict):
            return False, value
        inner_annotation = arguments[1] if len(arguments) == 2 else Any
        return True, {k: conform(v, inner_annotation, f"{key}.{k}", problems) for k, v in value.items()}
    return True, value


def _conform_dataclass(value: Any, schema: type, key: str, problems: list[Problem]) -> Any:
    if isinstance(value, schema):
        return value
    if not isinstance(value, dict):
        problems.append(Problem(key, f"expected a mapping, got {show(value)}"))
        return value
    hints = typing.get_type_hints(schema, include_extras=True)
    fields = {str(field.metadata.get("key", field.name)): field for field in dataclasses.fields(schema)}
    rest = fields.pop("*", None)
    prefix = f"{key}." if key else ""
    num_problems = len(problems)
    result: dict[str, Any] = {}
    for name, field in fields.items():
        if name in value:
            result[field.name] = conform(value[name], hints[field.name], prefix + name, problems)
        elif field.metadata.get("absent_is_none"):
            result[field.name] = None
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            problems.append(Problem(prefix + name, f"missing: expected {describe(hints[field.name])}"))
    others = {name: item for name, item in value.items() if name not in fields}
    if rest is not None:
        result[rest.name] = others
    else:
        problems.extend(Problem(prefix + str(name), unknown(str(name), fields, prefix)) for name in others)
    return schema(**result) if len(problems) == num_problems else value


def plain(value: Any) -> Any:
    """Return a value of the schema as plain values, keyed as in YAML: the inverse of `conform`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        result: dict[str, Any] = {}
        for item in dataclasses.fields(value):
            key = item.metadata.get("key", item.name)
            entry = plain(getattr(value, item.name))
            if key == "*":
                result |= entry
            else:
                result[key] = entry
        return result
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def show(value: Any) -> str:
    """Return a value as it is written in YAML, where that differs from Python."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value)


def _advice(value: Any, annotation: Any, key: str) -> str:
    if isinstance(value, int | float) and "a text" in describe(annotation):
        text = show(value)
        return f"; a text needs quotes here: '{text}' in a file, \"{key}='{text}'\" on the command line"
    if isinstance(value, float) and not math.isfinite(value):
        return ", which is not finite"
    return ""


def _is_known(annotation: Any) -> bool:
    """Return whether `_fit` checks this annotation, rather than let every value pass."""
    container = typing.get_origin(annotation) or annotation
    known = (Annotated, Union, types.UnionType, Literal, *_WORDS)
    return container in known or container is Any or _is_sequence(container) or _is_mapping(container)


def _is_sequence(container: Any) -> bool:
    return container in (list, tuple, collections.abc.Sequence, collections.abc.Iterable)


def _is_mapping(container: Any) -> bool:
    return container in (dict, collections.abc.Mapping)
