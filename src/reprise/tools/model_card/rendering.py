"""Renders a card from a Jinja template: every value is escaped, and a template reaches nothing but the facts.

A template may come with a run directory from somebody else, so it runs in Jinja's sandbox, and what it is given are
plain values. A value becomes Markdown by one of the filters below, or it is escaped where it is printed.
"""

import json
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import FunctionLoader, StrictUndefined, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from reprise.errors import InputError
from reprise.files.json_values import as_number, at, mappings_at
from reprise.text import markdown
from reprise.text.markdown import Markdown
from reprise.text.numbers import binary_size, count, duration, figure, interval, metric_title, percent, score
from reprise.tools.model_card import commands
from reprise.tools.model_card.cautions import CHECKS, cautions
from reprise.tools.model_card.facts import CardFacts

_ENGINES = "card.md.jinja"
"""The engine's template, which others can extend under this name."""
_OWN = "own"


def render(facts: CardFacts, template: str | None = None, name: str = _OWN) -> str:
    """Return the body of a card, from the text of a template or, without one, from the engine's.

    Raises:
        InputError: if the template cannot be rendered; the message calls it `name`.
    """
    context = {
        "facts": facts,
        "scores": facts.scores,
        "cautions": cautions(facts),
        "checks": CHECKS,
        "example": commands.example(facts),
        "repeat_commands": commands.repeat_commands(facts),
        "config": facts.config,
        "provenance": facts.provenance,
        "results": facts.results,
        "status": facts.status,
    }
    if template is None:
        return _environment(None, _ENGINES).get_template(_ENGINES).render(context)
    with _problems_explained(name):
        return _environment(template, name).get_template(_OWN).render(context)


# It keeps the compiled template, whose compilation takes longer than all else about a card: a sweep writes many.
@lru_cache(maxsize=4)
def _environment(own_template: str | None, name: str) -> "_Environment":
    return _Environment(own_template, name)


@contextmanager
def _problems_explained(name: str) -> Iterator[None]:
    try:
        yield
    except TemplateSyntaxError as error:
        raise InputError(f"{name}, line {error.lineno}: {error.message}") from None
    except Exception as error:  # whatever the expressions of a template come to
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == name]
        place = f"{name}, line {lines[-1]}" if lines else name
        raise InputError(f"{place}: {markdown.one_line(error) or type(error).__name__}") from None


class _Environment(ImmutableSandboxedEnvironment):
    """Prints what is not Markdown yet escaped; a part that a recorded file does not have is none, however deep."""

    # What blocks, macros and `set` blocks print was escaped when it was printed.
    concat = staticmethod(lambda parts: Markdown("".join(parts)))

    def __init__(self, own_template: str | None, name: str) -> None:
        def load(wanted: str) -> tuple[str, str, None] | None:
            if wanted == _ENGINES:
                return Path(__file__).with_name(_ENGINES).read_text(encoding="utf-8"), _ENGINES, None
            return None if own_template is None or wanted != _OWN else (own_template, name, None)

        super().__init__(
            finalize=_printed,
            loader=FunctionLoader(load),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.filters |= _FILTERS

    def getattr(self, obj: Any, attribute: str) -> Any:
        return at(obj, attribute) if _is_plain(obj) else super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if obj is None or isinstance(obj, Mapping) or (_is_plain(obj) and isinstance(argument, str)):
            return at(obj, argument) if isinstance(argument, str) else None
        return super().getitem(obj, argument)


def _is_plain(value: Any) -> bool:
    """Return whether a value is as JSON files hold them: parts of it are looked up, and it has no methods."""
    return value is None or type(value) is tuple or isinstance(value, str | bool | int | float | list | Mapping)


def _printed(value: Any) -> Markdown:
    if value is None:
        return Markdown("not recorded")
    if isinstance(value, bool | int | float):
        return Markdown(json.dumps(value))
    return markdown.escape_block(value)


def _join(values: Iterable[Any], between: str = ", ") -> Markdown:
    return Markdown(between.join(map(_printed, values)))


def _optional(function: Callable[..., str]) -> Callable[..., str | None]:
    return lambda value, *arguments: None if value is None else function(value, *arguments)


def _of_number(function: Callable[..., str]) -> Callable[..., str | None]:
    def filtered(value: Any, *arguments: Any) -> str | None:
        number = as_number(value)
        return None if number is None else function(number, *arguments)

    return filtered


_FILTERS: dict[str, Callable[..., Any]] = {
    "aligned": lambda text: Markdown(f"{markdown.aligned(text)}\n"),
    "code": _optional(markdown.code),
    "fenced": _optional(markdown.fenced),
    "join": _join,
    "json": lambda value: json.dumps(value, ensure_ascii=False, default=str),
    "paragraphs": _optional(markdown.paragraphs),
    "prose": _optional(markdown.prose),
    "counted": _of_number(lambda value, *nouns: count(int(value), *nouns)),
    "duration": _of_number(duration),
    "figure": _of_number(figure),
    "interval": lambda bounds, metric: None if bounds is None else interval(metric, bounds),
    "metric_title": metric_title,
    "percent": _of_number(percent),
    "mappings": lambda value: mappings_at({"": value}, ""),
    "score": _of_number(lambda value, metric: score(str(metric), value)),
    "size": _of_number(binary_size),
    "watt_hours": _of_number(lambda joules: figure(joules / 3600)),
}
