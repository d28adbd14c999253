"""Writes the model card when the run is complete."""

from reprise.callbacks import Callback, Outcome, Run


class ModelCard(Callback):
    def on_run_end(self, run: Run, outcome: Outcome) -> None:
        if outcome == "completed":
            from reprise.tools.checklist import check_run
            from reprise.tools.model_card import write_model_card

            write_model_card(run.directory, check_run(run.directory))
