"""The config as trackers take it: flat names to single values, without anything secret in it."""

from collections.abc import Iterator, Mapping
from typing import Any

from reprise.config.secrets import hidden


def parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return every value of the config under its dotted key."""
    return dict(_flat(hidden(config), ""))


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
