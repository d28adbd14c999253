"""Keeps credentials out of what is written: which keys hold them, and what stands in the place of their values."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

HIDDEN = "(secret, not recorded)"

_NAMES = re.compile(
    r"(^|_)(password|passwd|passphrase|secrets?|credentials?|auth|authorization|bearer|api_?key"
    r"|(access|secret|private|account|signing|encryption)_key(_id)?"
    # A tokenizer has tokens, too, and they are no secrets.
    r"|(?<!pad_)(?<!eos_)(?<!bos_)(?<!unk_)(?<!cls_)(?<!sep_)(?<!mask_)(?<!start_)(?<!image_)(?<!special_)token)$"
)
_ASSIGNMENT = re.compile(r"""([\w.@/-]+)=('[^']*'|"[^"]*"|[^,&\s'"]+)""")
_USER = re.compile(r"(?<=://)(?<!ssh://)[^/@\s]+(?=@)")
_USER_AT = re.compile(r"(?<=://)[^/@\s]+@")
_REFERENCE = re.compile(r"\$\{[\w.:]+\}")
_SHORTEST = 4
"""Characters of a secret that is looked for in texts; a shorter one would be found in anything."""
_known: list[str] = []
"""Credentials that this process was given, the longest first."""


def is_secret(key: str) -> bool:
    """Return whether what stands under a dotted key looks like a credential, by its last part."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", re.split(r"[.@/]", key)[-1]).lower().replace("-", "_")
    return _NAMES.search(name) is not None


def hidden(value: Any, is_credential: bool = False) -> Any:
    """Return plain values without the credentials in them: under their keys, in addresses and in assignments."""
    if isinstance(value, Mapping):
        return {key: hidden(item, is_credential or is_secret(str(key))) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [hidden(item, is_credential) for item in value]
    if is_credential and _is_given(value):
        return HIDDEN
    return hidden_in_text(value) if isinstance(value, str) else value


def keep_secret(values: Any) -> None:
    """Have `hidden_in_text` hide the credentials in plain values, wherever they turn up in this process."""
    _known[:] = sorted({*_known, *_credentials(values)}, key=len, reverse=True)


def hidden_in_text(text: str) -> str:
    """Return `text` without known secrets, users in addresses, and what is assigned to the key of a credential."""
    text = _USER.sub(HIDDEN, text)
    text = _ASSIGNMENT.sub(
        lambda match: f"{match[1]}={HIDDEN}" if is_secret(match[1]) and _is_given(match[2]) else match[0], text
    )
    for secret in _known:
        text = text.replace(secret, HIDDEN)
    return text


def without_users(text: str) -> str:
    """Return `text` with user and password left out of the addresses in it."""
    return _USER_AT.sub("", text)


def hidden_in_arguments(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of a command without credentials, those that follow an option such as `--token` too."""
    shown = [hidden_in_text(argument) for argument in arguments]
    for index, argument in enumerate(arguments[:-1]):
        if argument.startswith("--") and "=" not in argument and is_secret(argument[2:]):
            shown[index + 1] = HIDDEN
    return shown


def _credentials(values: Any, is_credential: bool = False) -> Iterator[str]:
    """Yield the credentials in plain values that are long enough to be looked for in texts."""
    if isinstance(values, Mapping):
        for key, item in values.items():
            yield from _credentials(item, is_credential or is_secret(str(key)))
    elif isinstance(values, list | tuple):
        for item in values:
            yield from _credentials(item, is_credential)
    elif is_credential and _is_given(values) and len(str(values)) >= _SHORTEST:
        yield str(values)


def _is_given(value: Any) -> bool:
    """Return whether there is something to hide: not null, not a switch, and not where it comes from."""
    if value is None or isinstance(value, bool) or value in ("", "null", "???", HIDDEN):
        return False
    return not (isinstance(value, str) and _REFERENCE.fullmatch(value.strip("'\"")))


def without_credentials(remote: str | None) -> str | None:
    """Return the address of a git remote without user, password and query."""
    if remote is None or "://" not in remote:
        return remote
    parts = urlsplit(remote)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))
