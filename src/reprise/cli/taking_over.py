"""Gives the keys of a saved config that were taken from others what they would take now.

A saved config has no interpolations any more: `callbacks.checkpoints.every_steps` is a number that was once
`${training.checkpoint_every_steps}`. Hydra's record of the same run still has them.
"""

import re
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from reprise.files.json_values import flattened

_TAKEN = re.compile(r"\$\{([\w.]+)\}")
_DEEPEST = 20
"""Interpolations that lead to others."""


def take_over(record: Path, before: Mapping[str, Any], values: dict[str, Any], given: Set[str]) -> None:
    """Give each key of `values` that takes its value from other keys, by the `record`, what it takes from them now.

    Left alone are keys that are `given`, and those that had another value than what they took `before`.
    """
    try:
        recorded = OmegaConf.to_container(OmegaConf.load(record), resolve=False)
    except (OSError, ValueError, YAMLError, OmegaConfBaseException):
        return  # it may be missing, or from somebody else
    written = flattened({str(key): value for key, value in recorded.items()}) if isinstance(recorded, dict) else {}
    taking = {key: text for key, text in written.items() if isinstance(text, str) and _TAKEN.search(text)}
    then, now = ({**flattened(one), **taking} for one in (before, values))
    for key in taking:
        old, new = (_value_of(key, flat) for flat in (then, now))
        *sections, name = key.split(".")
        section: Any = values
        for part in sections:
            section = section.get(part) if isinstance(section, dict) else None
        if not isinstance(section, dict) or any(key == one or key.startswith(f"{one}.") for one in given):
            continue
        if old is not None and new is not None and name in section and section[name] == old[0]:
            section[name] = new[0]


def _value_of(key: str, flat: Mapping[str, Any], depth: int = 0) -> tuple[Any] | None:
    """Return what a key comes to; None if its interpolation leads nowhere or calls a resolver."""
    if key not in flat or depth > _DEEPEST:
        return None
    value = flat[key]
    if not isinstance(value, str) or "${" not in value:
        return (value,)
    found = {}
    for other in _TAKEN.findall(value):
        if (part := _value_of(other, flat, depth + 1)) is None:
            return None
        found[other] = part[0]
    if whole := _TAKEN.fullmatch(value):
        return (found[whole[1]],)
    text = _TAKEN.sub(lambda match: str(found[match[1]]), value)
    return None if "${" in text else (text,)
