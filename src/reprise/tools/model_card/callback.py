"""Writes the model card when the run is complete."""

from pathlib import Path

from reprise.callbacks import Callback, Outcome, Run, StartedRun
from reprise.errors import InputError
from reprise.files.atomic_file import write_text
from reprise.runs.run_directory import RunDirectory


class ModelCard(Callback):
    """Writes `model_card.md` from a template, and keeps a template of the user's own beside it.

    `template`: path of a `.jinja` file below the current directory, such as `configs/card/paper.md.jinja`; null for the
    engine's.
    """

    def __init__(self, template: str | None = None) -> None:
        self._name, self._template = template, None if template is None else _read(template)

    def on_run_start(self, run: StartedRun) -> None:
        if self._template is None:
            return
        from reprise.tools.model_card.facts import CardFacts
        from reprise.tools.model_card.rendering import render

        # Whether it can be rendered is found out before training.
        render(CardFacts(run.config, {}), self._template, self._name or "")

    def on_restored(self, run: Run) -> None:
        path = RunDirectory(run.directory.path).card_template
        if self._template is None:
            path.unlink(missing_ok=True)
        else:
            write_text(path, self._template)

    def on_run_end(self, run: StartedRun, outcome: Outcome) -> None:
        if outcome == "completed":
            from reprise.tools.checklist import check_run
            from reprise.tools.model_card import write_model_card

            directory = RunDirectory(run.directory.path)
            write_model_card(directory, check_run(directory))


def _read(template: str) -> str:
    """Return the text of a template; a config from somebody else can name no other file of the user's."""
    from reprise.tools.model_card import read_template

    path, root = Path(template), Path.cwd().resolve()
    if path.suffix != ".jinja" or path.is_absolute() or not path.resolve().is_relative_to(root):
        raise InputError(
            f"callbacks.model_card.template: expected the path of a `.jinja` file below {root}, got {template!r}"
        )
    return read_template(path)
