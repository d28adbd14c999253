"""Writes the export of a finished run: one that is missing, and formats that hold the model without its Python code."""

from collections.abc import Sequence
from pathlib import Path

from reprise.config import ExportConfig
from reprise.errors import ExportFailed, Failure, InputError
from reprise.runs.attempt_record import missing_parts, record_made
from reprise.runs.export import check_packages, export_model, formats_of
from reprise.runs.export_formats import write_formats
from reprise.runs.products import EXPORT, FORMATS
from reprise.runs.saved_run import load_run
from reprise.tools.checklist import check_run
from reprise.tools.model_card import write_model_card


def export_run(
    run_dir: str | Path, *, onnx: bool = False, torch_export: bool = False, trusted_packages: Sequence[str] = ()
) -> None:
    """Write the best weights of a run into its `export/` in the formats asked for, and print what was compared.

    An export that could not be made when the run ended is made first, with the formats that the config asks for.

    Raises:
        InputError: if there is no finished run, or a package is not installed.
        Failure: if the model cannot be written in a format.
    """
    run = load_run(run_dir, trusted_packages)
    directory, export = run.directory, run.config.export
    missing = missing_parts(directory)
    asked = ExportConfig(onnx, torch_export)
    if EXPORT in missing or FORMATS in missing:
        asked = ExportConfig(onnx or export.onnx, torch_export or export.torch_export)
    formats = formats_of(asked)
    if not formats and EXPORT not in missing:
        raise InputError("name a format: --onnx, --torch-export or both; what from_pretrained loads is there already")
    check_packages(asked)
    if not directory.export.is_dir() and EXPORT not in missing:
        raise InputError(f"{run_dir} has no export/ yet: the run is {directory.read_status().get('status')}")
    model = run.model()
    with directory.locked():
        try:
            if EXPORT in missing:
                export_model(model, run.task.data, run.task.model_spec, directory.export)
                record_made(directory, EXPORT)
                print(directory.export)
            differences = write_formats(model, run.task.data, directory.export, formats) if formats else {}
            if FORMATS in missing and set(formats_of(export)) <= set(formats):
                record_made(directory, FORMATS)
        except ExportFailed as error:
            raise Failure(f"{run_dir}: {error}") from error
        finally:
            if missing and directory.model_card.exists():
                write_model_card(directory, check_run(directory))
    for name, difference in differences.items():
        print(f"{directory.export / name}: logits differ from the model's by {difference:.2g} at most")
