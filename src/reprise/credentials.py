"""Knows what is secret by its name or its place, so that it is written down nowhere."""

import re

_NAMED_SO = re.compile(
    r"(^|[_-])(password|passwd|passphrase|secret|credentials?|(api|access|private|secret)[_-]?key"
    r"|(access|api|auth|bearer|hf|hub|refresh|session)[_-]?token)([_-]|$)",
    re.IGNORECASE,
)
_SHORT_NAMES = {"token", "key", "auth"}
_USER_IN_ADDRESS = re.compile(r"(?<=://)[^/@\s]+@")


def is_secret(key: str, *, is_of_tracker: bool = False) -> bool:
    """Return whether a key is named like one that holds a password, a key or a token.

    `is_of_tracker`: there a `token` is a secret; elsewhere it is mostly a word of a text.
    """
    return _NAMED_SO.search(key) is not None or (is_of_tracker and key.lower() in _SHORT_NAMES)


def without_credentials(text: str) -> str:
    """Return `text` with user and password left out of the addresses in it."""
    return _USER_IN_ADDRESS.sub("", text)
