"""Reads overrides of the command line as the person meant them, and finds those that cannot be meant.

Hydra reads `run_id=20261123_060412` as a number with a separator in it, and stops at the first override that it
cannot apply.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, QuotedString, ValueType
from hydra.errors import OverrideParseException
from omegaconf import DictConfig

from reprise.cli.config_files import loader
from reprise.config.schema import text_keys
from reprise.errors import Problem
from reprise.private_names.omegaconf import node_of
from reprise.text.suggestions import instead, unknown

_ASSIGNMENT = re.compile(r"(?P<key>\+{0,2}(?P<name>[\w.]+))=(?P<value>.*)", re.DOTALL)


def parse(overrides: Sequence[str]) -> list[Override]:
    """Return Hydra's reading of overrides; while it is initialized, `glob(*)` can be spelled out too."""
    config_loader = loader() if GlobalHydra.instance().is_initialized() else None
    return OverridesParser.create(config_loader).parse_overrides(list(overrides))


def with_texts_quoted(overrides: Sequence[str]) -> list[str]:
    """Return the overrides such that a key of the schema that holds a text gets it as it was typed.

    Numbers, truth values and what Hydra cannot parse are put into quotes, in sweeps each value by itself. What is
    quoted already, holds an interpolation or is `null` stays as it is.
    """
    keys = text_keys()
    quoted = []
    for override in overrides:
        match = _ASSIGNMENT.fullmatch(override)
        if match and match["name"] in keys:
            override = f"{match['key']}={_quote_values(match['value'])}"
        quoted.append(override)
    return quoted


def forced(overrides: Sequence[Override], config: DictConfig) -> list[str]:
    """Return overrides such that none fails because `config` lacks its key; groups and Hydra's own keys stay."""
    return [
        f"++{override.input_line}"
        if override.type is OverrideType.CHANGE
        and not override.is_hydra_override()
        and not is_group(override.key_or_group)
        and missing_part(config, override.key_or_group) is not None
        else str(override.input_line)
        for override in overrides
    ]


def is_group(key: str) -> bool:
    """Return whether `key` is a config group, such as `model` or `training/optimizer`, rather than a key."""
    return bool(key) and bool(loader().get_group_options(key))


def group_problems(overrides: Sequence[Override]) -> list[Problem]:
    """Return a problem for each option that was chosen and is not there."""
    problems = []
    for override in overrides:
        group = override.key_or_group
        if override.is_delete() or not is_group(group):
            continue
        options = loader().get_group_options(group)
        values = list(override.sweep_iterator()) if override.is_discrete_sweep() else [override.value()]
        for value in (item for choice in values for item in (choice if isinstance(choice, list) else [choice])):
            text = value.text if isinstance(value, QuotedString) else value
            source = f"command line: {override.input_line}"
            if not isinstance(text, str):
                shown = "null" if text is None else repr(text)
                advice = f"known here: {', '.join(options)}; ~{group} leaves the group out"
                problems.append(Problem(group, f"expected the name of an option, got {shown}; {advice}", source))
            elif "${" in text:
                named = re.findall(r"\$\{([^{}]*)\}", text)
                if not named or not all(is_group(name) for name in named):
                    message = f"expected the name of an option, or ${{GROUP}} for that of another group, got {text!r}"
                    problems.append(Problem(group, message, source))
            elif not loader().repository.config_exists(f"{group}/{text}"):  # type: ignore[attr-defined]
                problems.append(Problem(group, f"there is no option {text!r}; {instead(text, options)}", source))
    return problems


def removal_problem(override: Override, config: DictConfig) -> Problem | None:
    """Return what is wrong with an override such as `~callbacks.progress`, or None if `config` has the key."""
    missing = missing_part(config, override.key_or_group, "~")
    if missing is None:
        return None
    return Problem(override.key_or_group, f"cannot be removed: {missing}", f"command line: {override.input_line}")


def missing_part(config: DictConfig, key: str, sign: str = "") -> str | None:
    """Return which key stands in `config` where the dotted `key` leaves it, in words; None if it is there."""
    section: Any = config
    parts = key.split(".")
    for position, part in enumerate(parts):
        known = [str(name) for name in section] if isinstance(section, DictConfig) else []
        if part not in known:
            return unknown(part, known, sign + "".join(f"{above}." for above in parts[:position]))
        section = node_of(section, part)
    return None


def _quote_values(value: str) -> str:
    if value.startswith(("'", '"')) or "${" in value or value == "null":
        return value
    try:
        (override,) = parse([f"key={value}"])
    except OverrideParseException:
        return _quote(value)
    if override.value_type is ValueType.ELEMENT:
        return _quote(value) if isinstance(override.value(), bool | int | float) else value
    listed = re.fullmatch(r"choice\((?P<inner>.*)\)|(?P<plain>[^()]*)", value)
    if listed is None or not override.is_choice_sweep() or re.search(r"""['"\\[\]{}]""", value):
        return value
    # Not as `choice(…)`, from which Hydra's sweeper drops the quotes.
    return ",".join(_quote_values(item.strip()) for item in (listed["inner"] or listed["plain"]).split(","))


def _quote(value: str) -> str:
    # Within Hydra's quotes, backslashes count only before a quote.
    escaped: Callable[[re.Match[str]], str] = lambda match: match[1] * 2 + (r"\'" if match[2] else "")  # noqa: E731
    return "'" + re.sub(r"(\\*)('|$)", escaped, value) + "'"
