"""Writes a trained model such that it loads with `from_pretrained`, and loads it again."""

import contextlib
import importlib
import importlib.util
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from reprise.config import ExportConfig
from reprise.config.secrets import hidden
from reprise.config.targets import build
from reprise.data import Data
from reprise.errors import InputError, MissingExtra
from reprise.files.atomic_file import sync, write_json
from reprise.files.json_file import read_object
from reprise.files.json_values import list_at
from reprise.models import is_transformers_model
from reprise.runs.exported_state import WEIGHTS, load_state, write_state

ONNX, TORCH_EXPORT = "model.onnx", "model.pt2"
"""Formats that hold a model without its Python code: `reprise.runs.export_formats` writes them."""

_CONFIG = "config.json"


def export_model(model: nn.Module, data: Data, spec: Mapping[str, Any], directory: Path) -> None:
    """Write `model` and the data's processor to `directory`, which appears whole or not at all.

    A model of `transformers` writes itself; of any other, the weights are kept beside `spec`, its `_target_` with all
    arguments.
    """
    scratch = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}.", suffix=".tmp"))
    try:
        if is_transformers_model(model):
            transformers_model: Any = model
            with _quiet_transformers():
                transformers_model.save_pretrained(scratch)
        else:
            write_state(model.state_dict(), scratch)
            write_json(scratch / _CONFIG, hidden(spec))
        if data.processor is not None:
            data.processor.save_pretrained(scratch)
        scratch.chmod(0o755)
        if directory.exists():
            shutil.rmtree(directory)
        scratch.rename(directory)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    sync(directory.parent)


def formats_of(export: ExportConfig) -> list[str]:
    """Return the files that a config asks for beside those that `export_model` writes."""
    return [name for name, is_asked in ((ONNX, export.onnx), (TORCH_EXPORT, export.torch_export)) if is_asked]


def check_packages(export: ExportConfig) -> None:
    """Raise an error if a package that a format needs is not installed."""
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if export.onnx and missing:
        raise MissingExtra("export.onnx", " and ".join(missing), "onnx")


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keep the progress bars of `transformers` off the terminal: a live view may be drawn there."""
    logging = importlib.import_module("transformers.utils.logging")
    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()


def from_pretrained(directory: str | Path, trusted_packages: Sequence[str] = ()) -> nn.Module:
    """Return the exported model in evaluation mode.

    `trusted_packages`: packages beyond those under `src/` that may be imported from.

    Raises:
        InputError: if there is no export, or its model is not from a trusted package.
    """
    from safetensors import SafetensorError

    directory = Path(directory)
    config = read_object(directory / _CONFIG)
    if not config:
        raise InputError(f"{directory} is not an export: it has no {_CONFIG}")
    if "_target_" in config:
        model = build(config, "model", trusted_packages)
        if not isinstance(model, nn.Module):
            raise InputError(f"{directory}: expected a torch.nn.Module, got {type(model).__name__}")
        try:
            load_state(model, directory)
        except (OSError, SafetensorError, RuntimeError) as error:
            raise InputError(f"{directory / WEIGHTS} is damaged, or not of this model: {error}") from None
        return model.eval()
    model_class = _transformers_class(directory, config)
    # Neither code nor pickles that the directory may hold.
    safe = {"local_files_only": True, "trust_remote_code": False, "use_safetensors": True}
    try:
        with _quiet_transformers():
            pretrained: nn.Module = model_class.from_pretrained(directory, **safe)
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"{directory}: no weights can be loaded: {str(error).strip().splitlines()[0]}") from None
    return pretrained.eval()


def _transformers_class(directory: Path, config: Mapping[str, Any]) -> Any:
    """Return the class of `transformers` that the export names, if it is that of a model."""
    transformers = importlib.import_module("transformers")
    names = list_at(config, "architectures")
    found = getattr(transformers, str(names[0]), None) if len(names) == 1 else None
    if not (isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)):
        raise InputError(f"{directory} is not an export: its {_CONFIG} names no model of transformers")
    return found
