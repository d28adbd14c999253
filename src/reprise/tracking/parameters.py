"""The config as trackers take it: flat names to single values, without anything secret in it."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

MASK = "***"

_SECRET = re.compile(
    r"(^|[_-])(password|passwd|passphrase|secret|credentials?|(api|access|private|secret)[_-]?key"
    r"|(access|api|auth|bearer|hf|hub|refresh|session)[_-]?token)([_-]|$)",
    re.IGNORECASE,
)
_USER_IN_ADDRESS = re.compile(r"(?<=://)[^/@\s]+@")


def is_secret(key: str) -> bool:
    """Return whether a key is named like one that holds a password, a key or a token."""
    return _SECRET.search(key) is not None


def without_credentials(text: str) -> str:
    """Return `text` with user and password left out of the addresses in it."""
    return _USER_IN_ADDRESS.sub("", text)


def parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return every value of the config under its dotted key; values of keys that are named like secrets are masked."""
    return dict(_flat(config, ""))


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if value is not None and (is_secret(str(key)) or (name.startswith("tracker.") and str(key) in _SHORT_SECRETS)):
            yield name, MASK
        elif isinstance(value, Mapping) and value:
            yield from _flat(value, f"{name}.")
        else:
            yield name, without_credentials(value) if isinstance(value, str) else value


_SHORT_SECRETS = {"token", "key", "auth"}
"""Words that mean a secret in the settings of a tracker, and mostly something else elsewhere."""
