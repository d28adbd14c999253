"""Records and summary of a sweep of so many jobs, none of which is carried out.

Reported are the CPU seconds that each takes: recording that one more job ended, finding out that one is complete when
the same command is given again, and the job's part of the summary.

python sweep_records.py REPORT OUTPUTS NUM_JOBS
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from reprise.cli.sweep.launcher import completed
from reprise.runs.sweep_directory import create_or_open_sweep
from reprise.tools.sweep.documents import write_summary
from reprise.tools.sweep.job_record import record_job, run_id_of

NUM_SEEDS, NUM_MEASURED = 5, 200
METRICS = [f"{split}/{name}" for split in ("val", "test") for name in ("loss", "accuracy", "macro_f1")]


def main(report: str, outputs: str, num_jobs: int) -> None:
    directory = create_or_open_sweep(outputs, "benchmark", "sweep")
    run_ids = []
    for number in range(num_jobs):
        overrides = [f"training.learning_rate={number // NUM_SEEDS + 1}e-6", f"seed={number % NUM_SEEDS}"]
        run_ids.append(run_id_of("sweep", overrides))
        run = directory.run(run_ids[-1])
        run.path.mkdir()
        run.status.write_text('{"status": "completed", "reason": "12 steps done", "attempts": []}')
        metrics = {name: 1 / (number + position + 1) for position, name in enumerate(METRICS)}
        monitor = {"metric": "val/loss", "mode": "min", "value": metrics["val/loss"]}
        outcome = {"run_id": run_ids[-1], "overrides": overrides, "status": "completed", "reason": None}
        outcome |= {"traceback": None, "run_dir": None, "monitor": monitor, "metrics": metrics}
        directory.record(run_ids[-1]).write_text(json.dumps(outcome))

    def median_seconds(call: Callable[[int], object]) -> float:
        return statistics.median(seconds(lambda number=number: call(number)) for number in range(NUM_MEASURED))

    def seconds(call: Callable[[], object]) -> float:
        began = time.process_time()
        call()
        return time.process_time() - began

    found = {
        "complete": median_seconds(lambda number: completed(directory, run_ids[number % num_jobs])),
        "summary": seconds(lambda: write_summary(directory)) / num_jobs,
        "record": median_seconds(
            lambda number: record_job(directory, f"more-{number}", ["seed=1"], "failed", "measured")
        ),
    }
    Path(report).write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
