"""Writes the model of a finished run in formats that hold it without its Python code."""

from collections.abc import Sequence
from pathlib import Path

from reprise.config import ExportConfig
from reprise.errors import ExportFailed, Failure, InputError
from reprise.runs.export import check_packages, formats_of
from reprise.runs.export_formats import write_formats
from reprise.runs.saved_run import load_run


def export_run(
    run_dir: str | Path, *, onnx: bool = False, torch_export: bool = False, trusted_packages: Sequence[str] = ()
) -> None:
    """Write the best weights of a run into its `export/` in the formats asked for, and print what was compared.

    Raises:
        InputError: if there is no finished run, or a package is not installed.
        Failure: if the model cannot be written in a format.
    """
    asked = ExportConfig(onnx, torch_export)
    formats = formats_of(asked)
    if not formats:
        raise InputError("name a format: --onnx, --torch-export or both; what from_pretrained loads is there already")
    check_packages(asked)
    run = load_run(run_dir, trusted_packages)
    if not run.directory.export.is_dir():
        raise InputError(f"{run_dir} has no export/ yet: the run is {run.directory.read_status().get('status')}")
    model = run.model()
    with run.directory.locked():
        try:
            differences = write_formats(model, run.task.data, run.directory.export, formats)
        except ExportFailed as error:
            raise Failure(f"{run_dir}: {error}") from error
    for name, difference in differences.items():
        print(f"{run.directory.export / name}: logits differ from the model's by {difference:.2g} at most")
