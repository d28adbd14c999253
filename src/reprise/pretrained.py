"""Loads what others have trained, from a local directory or from the Hugging Face Hub, and fails fast where it cannot."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from reprise.config import InputError

_TIMEOUT_SECONDS = 10.0


def load_pretrained(load: Callable[..., Any], name: str, key: str, advice: str, **arguments: Any) -> Any:
    """Return `load(name, **arguments)`; `load` is a `from_pretrained` of `transformers`.

    `name`: a directory, or a name on the Hub. `key`: where the user wrote it. `advice`: what else to write there.

    Raises:
        InputError: if there is no such directory, the Hub has no such name or is out of reach, or loading fails.
    """
    is_directory = Path(name).expanduser().is_dir()
    source = str(Path(name).expanduser()) if is_directory else name
    try:
        return load(source, local_files_only=is_directory or not _is_on_hub(name, key, advice), **arguments)
    except (OSError, ValueError) as error:
        where = "the directory" if is_directory else "the Hub, which is out of reach, nor the local cache, for"
        first_line = str(error).strip().split("\n")[0]
        raise InputError(f"{key}: nothing that loads in {where} {name!r}; {advice} ({first_line})") from error


def _is_on_hub(name: str, key: str, advice: str) -> bool:
    """Return whether the Hub can be asked for `name`; False where it cannot be reached."""
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    if name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name:
        raise InputError(f"{key}: there is no directory {name!r}; {advice}")
    try:
        # One question with a time limit: without it, `from_pretrained` tries again for 23 seconds for each file.
        huggingface_hub.model_info(name, timeout=_TIMEOUT_SECONDS)
    except (HFValidationError, RepositoryNotFoundError):
        raise InputError(f"{key}: there is neither a directory nor a model on the Hub named {name!r}; {advice}") from None
    except Exception:  # no network, offline mode, a server's error, …: the cache may still have it
        return False
    return True
