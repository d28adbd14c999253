"""The config as trackers take it: flat names to single values, without anything secret in it."""

from collections.abc import Iterator, Mapping
from typing import Any

from reprise.credentials import is_secret, without_credentials

MASK = "***"


def parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return every value of the config under its dotted key; values of keys that are named like secrets are masked."""
    return dict(_flat(config, ""))


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if value is not None and is_secret(str(key), is_of_tracker=prefix.startswith("tracker.")):
            yield f"{prefix}{key}", MASK
        elif isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", without_credentials(value) if isinstance(value, str) else value
