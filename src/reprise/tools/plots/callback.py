"""Draws the run when it is complete: learning curves, and for classes what was taken for what and how surely."""

import json
from pathlib import Path

from reprise.callbacks import Callback, Run
from reprise.files.atomic_file import write_text
from reprise.files.json_values import list_at, mapping_at
from reprise.runs.metrics_log import read_metrics
from reprise.runs.run_directory import RunDirectory


class Plots(Callback):
    """Writes SVG files to `results`; what a run has nothing of is not drawn."""

    def on_results(self, run: Run) -> None:
        from reprise.tools.plots.confusion_matrix import draw_confusion_matrix
        from reprise.tools.plots.learning_curves import draw_learning_curves
        from reprise.tools.plots.reliability import draw_reliability

        directory, results = RunDirectory(run.directory.path), run.results
        assert results is not None
        evaluations = [entry for entry in read_metrics(directory.metrics_log, "val/") if "val/loss" in entry.metrics]
        _write(directory.learning_curves, draw_learning_curves(evaluations, run.loop.monitor, results["step"]))
        for details in mapping_at(results, "details").values():
            labels = [str(label) for label in list_at(details, "confusion_matrix", "labels")]
            _write(
                directory.confusion_matrix,
                draw_confusion_matrix(labels, list_at(details, "confusion_matrix", "counts")),
            )
        if not directory.predictions.exists():
            return
        predictions = json.loads(directory.predictions.read_text(encoding="utf-8"))
        sure = [(p["probability"], p["label"] == p["prediction"]) for p in predictions if "probability" in p]
        _write(directory.reliability, draw_reliability(sure))


def _write(path: Path, picture: str | None) -> None:
    if picture is not None:
        write_text(path, picture)
