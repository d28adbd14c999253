"""Uploads a run to the Hugging Face Hub: card, weights and config; what else, only if it is asked for."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from reprise.errors import Failure, InputError
from reprise.runs.run_directory import RunDirectory, open_run
from reprise.text.numbers import binary_size, count
from reprise.tools.checklist import check_run
from reprise.tools.model_card import model_card_text

INCLUDES = {
    "checkpoints": "whole training states, with that of the optimizer",
    "logs": "train.log, metrics.jsonl and TensorBoard's events",
    "code": "code.patch and provenance.json, with the command and the names of all packages",
    "predictions": "the prediction for each sample of the test split",
}
"""What can be uploaded as well, and what it is."""


@dataclass(frozen=True)
class Upload:
    """A file in the repository on the Hub, and where its content comes from."""

    name: str
    source: Path | bytes

    @property
    def size(self) -> int:
        return len(self.source) if isinstance(self.source, bytes) else self.source.stat().st_size


def push_run() -> None:
    parser = argparse.ArgumentParser(description="Upload a run to the Hugging Face Hub, after showing what.")
    parser.add_argument("run_dir", metavar="RUN_DIR")
    parser.add_argument("repository", metavar="REPO", help="NAME/REPOSITORY; made if there is none")
    parser.add_argument("--public", action="store_true", help="if it is made now, for everybody to see; else private")
    parser.add_argument(
        "--include",
        action="append",
        default=[],
        choices=INCLUDES,
        help="what to upload as well; can be given again. "
        + "; ".join(f"{name}: {meaning}" for name, meaning in INCLUDES.items()),
    )
    parser.add_argument("--unfinished", action="store_true", help="also if the run is not complete")
    parser.add_argument("--dry-run", action="store_true", help="only show what would be uploaded")
    parser.add_argument("--yes", action="store_true", help="upload without asking")
    options = parser.parse_args()
    _check_name(options.repository)
    run = open_run(options.run_dir)
    uploads = collect_uploads(run, options.repository, options.include, is_unfinished_allowed=options.unfinished)
    _show(uploads, options.repository, options.public)
    if not options.dry_run and (options.yes or _is_confirmed()):
        print(_upload(uploads, run, options.repository, is_private=not options.public))


def collect_uploads(
    run: RunDirectory, repository: str, includes: Sequence[str] = (), *, is_unfinished_allowed: bool = False
) -> list[Upload]:
    """Return what is uploaded, the card first; it says how to load the model from `repository`.

    Raises:
        InputError: if the run is not complete, or has no weights to upload.
    """
    status = run.read_status().get("status")
    if status != "completed" and not is_unfinished_allowed:
        raise InputError(f"{run.path}: expected a complete run, and it is {status}; --unfinished uploads it as it is")
    weights = sorted(path for path in run.export.rglob("*") if path.is_file())
    if not weights:
        raise InputError(f"{run.path}: there is nothing in {run.export.name}, which a run has once it was scored")
    card = model_card_text(run, check_run(run), repository=repository)
    uploads = [Upload("README.md", card.encode())]
    uploads += [Upload(path.relative_to(run.export).as_posix(), path) for path in weights]
    # The config of the model has the name config.json, where `from_pretrained` looks for it.
    uploads.append(Upload("run_config.json", run.config))
    others = [run.metrics, *run.plots, *(path for name in includes for path in _included(run, name))]
    uploads += [Upload(path.relative_to(run.path).as_posix(), path) for path in others if path.is_file()]
    return uploads


def _included(run: RunDirectory, name: str) -> Iterator[Path]:
    if name == "checkpoints":
        yield from sorted(run.checkpoints.glob("*.pt"))
    elif name == "logs":
        yield from (run.train_log, run.metrics_log, *sorted(run.tensorboard.glob("events.*")))
    elif name == "code":
        yield from (run.code_patch, run.provenance)
    else:
        yield run.predictions


def _check_name(repository: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise InputError(f"REPO: {error}") from None


def _show(uploads: Sequence[Upload], repository: str, is_public: bool) -> None:
    print(f"To {repository} ({'public' if is_public else 'private'} if it is made now):")
    sizes = [binary_size(upload.size) for upload in uploads]
    width = max(map(len, sizes))
    for upload, size in zip(uploads, sizes, strict=True):
        print(f"  {size:>{width}}  {upload.name}")
    print(f"{count(len(uploads), 'file')}, {binary_size(sum(upload.size for upload in uploads))}")


def _is_confirmed() -> bool:
    if not sys.stdin.isatty():
        raise InputError("there is no terminal to ask at; --yes uploads without asking, --dry-run only shows the files")
    if input("Upload these? [y/N] ").strip().lower() in ("y", "yes"):
        return True
    print("Nothing was uploaded.")
    return False


def _upload(uploads: Sequence[Upload], run: RunDirectory, repository: str, *, is_private: bool) -> str:
    """Upload everything in one commit and return the address of the repository."""
    import huggingface_hub
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    if huggingface_hub.get_token() is None:
        raise InputError("there is no token for the Hub: `hf auth login` asks for one, or set HF_TOKEN")
    if not sys.stdout.isatty():
        disable_progress_bars()
    api = huggingface_hub.HfApi()
    additions = [
        huggingface_hub.CommitOperationAdd(
            upload.name, upload.source if isinstance(upload.source, bytes) else str(upload.source)
        )
        for upload in uploads
    ]
    try:
        address = api.create_repo(repository, private=is_private, exist_ok=True)
        api.create_commit(address.repo_id, additions, commit_message=f"Run {run.run_id}")
    except Exception as error:  # of its HTTP client, of the Hub, or of the disk
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise Failure(f"{repository}: nothing was uploaded: {reason}") from None
    return str(address)
