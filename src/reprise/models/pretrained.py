"""Loads what others have trained, from a directory or from the Hugging Face Hub, and fails fast where it cannot."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from reprise.errors import InputError

_TIMEOUT_SECONDS = 10.0


def load_pretrained(load: Callable[..., Any], name: str, key: str, advice: str, **arguments: Any) -> Any:
    """Return `load(name, **arguments)`; `load` is a `from_pretrained` of `transformers`.

    `name`: a directory, or a name on the Hub. `key`: where the user wrote it. `advice`: what else to write there.

    Raises:
        InputError: if there is no such directory, the Hub has no such name or is out of reach, or loading fails.
    """
    directory = Path(name).expanduser()
    if directory.is_dir():
        source, is_local, place = str(directory), True, f"the directory {name!r}"
    elif _can_ask_hub(name, key, advice):
        source, is_local, place = name, False, f"{name!r} on the Hub"
    else:
        source, is_local, place = name, True, f"the Hub's local cache of {name!r}, and the Hub is out of reach"
    try:
        # False, not unset: `transformers` would ask on the terminal whether to run the code that lies there.
        return load(source, local_files_only=is_local, trust_remote_code=False, **arguments)
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(f"{key}: nothing can be loaded from {place}; {advice} ({reason})") from error


def _can_ask_hub(name: str, key: str, advice: str) -> bool:
    """Return whether the Hub is there and knows `name`; False where it cannot be reached."""
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    if name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name:
        raise InputError(f"{key}: there is no directory {name!r}; {advice}")
    try:
        # One question with a time limit: without it, `from_pretrained` tries again for 23 seconds for each file.
        huggingface_hub.model_info(name, timeout=_TIMEOUT_SECONDS)
    except (HFValidationError, RepositoryNotFoundError):
        raise InputError(f"{key}: there is no directory, nor a model on the Hub, named {name!r}; {advice}") from None
    except Exception:  # no network, offline mode, a server's error …: the cache may still have it
        return False
    return True
