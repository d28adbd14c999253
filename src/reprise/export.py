"""Writes a trained model such that it loads with `from_pretrained`, and loads it again."""

import contextlib
import importlib
import importlib.util
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from reprise.atomic_file import sync, write_json
from reprise.config import ExportConfig, InputError
from reprise.config.targets import build
from reprise.data import Data
from reprise.models import is_transformers_model

ONNX, TORCH_EXPORT = "model.onnx", "model.pt2"
"""Formats that hold a model without its Python code: `reprise.exported_formats` writes them."""

_CONFIG, _WEIGHTS = "config.json", "model.safetensors"


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
            from safetensors.torch import save_model

            save_model(model, str(scratch / _WEIGHTS))
            write_json(scratch / _CONFIG, dict(spec))
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
    """Raise an InputError if a package that a format needs is not installed."""
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if export.onnx and missing:
        names = " and ".join(f"`{name}`" for name in missing)
        raise InputError(f"export.onnx: needs {names}, not installed; install the extra: pip install -e '.[onnx]'")


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
    directory = Path(directory)
    try:
        config = json.loads((directory / _CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{directory} is not an export: it has no {_CONFIG}") from None
    if "_target_" in config:
        from safetensors.torch import load_model

        model: nn.Module = build(config, "model", trusted_packages)
        load_model(model, str(directory / _WEIGHTS))
        return model.eval()
    if "architectures" not in config:
        raise InputError(f"{directory} is not an export: its {_CONFIG} names no model")
    transformers = importlib.import_module("transformers")
    (architecture,) = config["architectures"]
    with _quiet_transformers():
        model = getattr(transformers, architecture).from_pretrained(directory, local_files_only=True)
    return model.eval()
