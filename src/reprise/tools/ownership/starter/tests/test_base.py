"""The first experiment runs from config to card."""

import json
import math
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def test_base_experiment_ends_complete_with_scores_and_a_card(tmp_path: Path) -> None:
    command = [sys.executable, "scripts/train.py", "experiment=base", "debug=short", f"output_dir={tmp_path}"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    run = REPOSITORY / done.stdout.splitlines()[-1]
    assert json.loads((run / "status.json").read_text())["status"] == "completed"
    metrics = json.loads((run / "results" / "metrics.json").read_text())["metrics"]
    assert all(math.isfinite(value) for value in metrics.values())
    assert (run / "model_card.md").is_file()
