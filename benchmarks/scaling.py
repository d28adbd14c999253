"""Costs stay flat as work grows: one thing is scaled over three orders of magnitude, and all else stays as it is.

Here are the lines of a log, the samples of an index, the jobs of a sweep, and the runs that a comparison and a report
read.
"""

import itertools
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import REPOSITORY, Contestant, Measured, Row, measurement, peer, race, reprise_run, run

FLAT = 1.1
"""A step may take this many times what it takes at the smallest scale."""
FLAT_MEMORY = 10e6
"""Memory may be this many bytes more than at the smallest scale."""
LINEAR = 1.3
"""One of a thousand runs may take this many times what one of a hundred takes."""


def log_lines(num_rounds: int) -> list[Row]:
    """A run of a million steps, each with a line; measured once, whatever `num_rounds`."""
    steps_per_epoch, scales = 250, [10**3, 10**4, 10**5, 10**6]
    last_epochs = {
        scale: [step for step in range(scale - 10_000, scale + 1, steps_per_epoch) if step > 0] for scale in scales
    }

    def trained(num_steps: int) -> Measured:
        at = sorted(step for steps in last_epochs.values() for step in steps if step <= num_steps)
        overrides = (
            "experiment_name=benchmark",
            "data=points",
            f"data.num_train={steps_per_epoch}",
            "data.num_val=16",
            "model=perceptron",
            "training.batch_size=1",
            "training.learning_rate=1e-5",
            "training.log_every_steps=1",
            f"training.max_epochs={num_steps // steps_per_epoch}",
        )
        return run(reprise_run("ours", *overrides, *measurement(at), "callbacks.measurement.leave=false"))

    first = scales[1]  # by then TensorBoard is imported, too, which begins after some seconds
    short, long = trained(first), trained(scales[-1])
    marks = long.report["marks"]

    def step_seconds(scale: int) -> float:
        # Of the fastest epoch: a machine is slower for minutes at times, and these lie minutes apart.
        cpu = [marks[str(step)]["cpu"] for step in last_epochs[scale]]
        return min((later - earlier) / steps_per_epoch for earlier, later in itertools.pairwise(cpu))

    rows = [
        time_row(f"a step after {scale:,} lines of the log", step_seconds(scale), step_seconds(first), f"{first:,}")
        for scale in scales
    ]
    resident = {scale: marks[str(scale)]["resident"] for scale in scales}
    rows += [
        memory_row(f"memory after {scale:,} lines", resident[scale], resident[first], f"{first:,}") for scale in scales
    ]

    def ending(measured: Measured) -> float:
        return measured.cpu - float(list(measured.report["marks"].values())[-1]["cpu"])

    what = f"after the last of {scales[-1]:,} steps: results, export, card"
    rows.append(
        Row(what, ours=f"{ending(long):.2f} s", value=f"{ending(long) - ending(short):+.2f} s beyond {first:,}")
    )
    rows.append(memory_row("peak memory of that whole run", long.peak, short.peak, f"{first:,}"))
    return rows


def index(num_rounds: int) -> list[Row]:
    """A data set of up to ten million samples; the bare loop has a DataLoader with shuffle."""
    scales, at = [10**4, 10**5, 10**6, 10**7], [1, 100, 1200]
    overrides = (
        "experiment_name=benchmark",
        "data=index",
        "model=perceptron",
        "training.batch_size=8",
        "training.log_every_steps=1",
        "tracker=none",  # TensorBoard's import would fall into some of these few steps
    )
    contestants = [
        *(peer(f"bare {scale}", "loader_index.py", scale, *at) for scale in scales),
        *(reprise_run(f"ours {scale}", *overrides, f"data.num_samples={scale}", *measurement(at)) for scale in scales),
    ]
    rounds = race(contestants, num_rounds)

    def mark(name: str, step: int, fact: str) -> list[float]:
        return [measured[name].report["marks"][str(step)][fact] for measured in rounds]

    def step_seconds(name: str) -> float:
        pairs = zip(mark(name, at[1], "cpu"), mark(name, at[2], "cpu"), strict=True)
        return statistics.median((later - earlier) / (at[2] - at[1]) for earlier, later in pairs)

    def median(who: str, scale: int, step: int, fact: str) -> float:
        return statistics.median(mark(f"{who} {scale}", step, fact))

    first, rows = scales[0], []
    for scale in scales:
        time = step_seconds(f"ours {scale}"), step_seconds(f"ours {first}")
        rows.append(time_row(f"a step, index of {scale:,} samples", *time, f"{first:,}", step_seconds(f"bare {scale}")))
    for scale in scales:
        memory = [median(who, scale, at[2], "resident") for who in ("ours", "bare")]
        smallest = median("ours", first, at[2], "resident")
        rows.append(memory_row(f"memory, index of {scale:,} samples", memory[0], smallest, f"{first:,}", memory[1]))
    for scale in scales:
        starts = [median(who, scale, at[0], "cpu") for who in ("ours", "bare")]
        more = starts[0] - median("ours", first, at[0], "cpu")
        what = f"start to first step, index of {scale:,} samples"
        rows.append(Row(what, f"{starts[1]:.2f} s", "", f"{starts[0]:.2f} s", f"{more:+.2f} s beyond {first:,}"))
    return rows


def sweep_records(num_rounds: int) -> list[Row]:
    """What a sweep of up to ten thousand jobs takes for each, beside the job itself."""
    scales = [10, 100, 1000, 10_000]
    rounds = race([peer(str(scale), "sweep_records.py", scale) for scale in scales], num_rounds)

    def median(scale: int, what: str) -> float:
        return statistics.median(measured[str(scale)].report[what] for measured in rounds)

    # The files of a summary take some time whatever stands in them: few jobs have too large a part of that.
    for_each = {"recording that a job ended": ("record", 10), "seeing that a job is complete": ("complete", 10)}
    for_each["a job's part of the summary"] = ("summary", 1000)
    return [
        time_row(f"{what}, of {scale:,}", median(scale, name), median(first, name), f"{first:,}")
        for what, (name, first) in for_each.items()
        for scale in scales
        if scale >= first
    ]


def compare(num_rounds: int) -> list[Row]:
    """The comparison of up to a thousand runs, five seeds of each variant."""
    return _reading_runs("compare.py", num_rounds)


def report(num_rounds: int) -> list[Row]:
    """The page about up to a thousand runs."""
    return _reading_runs("report.py", num_rounds, "--output", "{report}.html")


def _reading_runs(script: str, num_rounds: int, *arguments: str) -> list[Row]:
    scales = [1, 10, 100, 1000]
    with tempfile.TemporaryDirectory(prefix="benchmark_") as scratch:
        make_runs(train_real_run(Path(scratch)), Path(scratch), scales)
        contestants = [
            Contestant(
                str(scale),
                (str(REPOSITORY / "scripts" / script), "many", "--output-dir", f"{scratch}/{scale}", *arguments),
            )
            for scale in scales
        ]
        rounds = race(contestants, num_rounds, in_turns=False)
    cpu, peak = (
        {scale: statistics.median(getattr(measured[str(scale)], fact) for measured in rounds) for scale in scales}
        for fact in ("cpu", "peak")
    )
    rows = [
        Row(f"{script}, {scale:,} runs", ours=f"{cpu[scale]:.2f} s", value=f"{peak[scale] / 1e6:.0f} MB at the peak")
        for scale in scales
    ]
    for what, facts, scale_by, unit in (("time", cpu, 1e3, "ms"), ("memory", peak, 1e-3, "kB")):
        hundred, thousand = ((facts[scale] - facts[1]) / (scale - 1) * scale_by for scale in (100, 1000))
        value = f"{thousand / hundred:.2f} × one of 100" if hundred > 0 else "not to be told from noise at 100"
        reached = thousand <= LINEAR * hundred if hundred > 0 else None
        rows.append(
            Row(
                f"{script}, {what} of one of 1,000",
                ours=f"{thousand:.3g} {unit}",
                value=value,
                target=f"≤ {LINEAR:g} ×",
                reached=reached,
            )
        )
    return rows


def train_real_run(scratch: Path) -> Path:
    """Train the run, with 12 epochs in its log, that others are made out of."""
    command = [sys.executable, str(REPOSITORY / "scripts" / "train.py"), "experiment=base", "tracker=none"]
    trained = ["training.max_epochs=12", "run_id=real", f"output_dir={scratch}"]
    subprocess.run([*command, *trained], cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)
    return scratch / "experiments" / "base" / "real"


def make_runs(run: Path, scratch: Path, scales: list[int]) -> None:
    """Make so many runs out of a real one, for each scale in a folder of its name."""
    program = (
        f"import sys; sys.path.insert(0, {str(REPOSITORY / 'tests' / 'reprise')!r})\n"
        "from many_runs import make_runs\n"
        f"for scale in {scales}: make_runs({str(run)!r}, f'{scratch}/{{scale}}', scale)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def time_row(what: str, seconds: float, at_first: float, first: str, bare: float | None = None) -> Row:
    ratio = seconds / at_first
    shown = "" if bare is None else f"{bare * 1e6:.0f} µs"
    ours = f"{seconds * 1e6:.0f} µs"
    return Row(what, shown, "", ours, f"{ratio:.3f} × at {first}", f"≤ {FLAT:g} ×", ratio <= FLAT)


def memory_row(what: str, size: float, at_first: float, first: str, bare: float | None = None) -> Row:
    more = size - at_first
    shown = "" if bare is None else f"{bare / 1e6:.0f} MB"
    value, target = f"{more / 1e6:+.0f} MB beyond {first}", f"≤ {FLAT_MEMORY / 1e6:+.0f} MB"
    return Row(what, shown, "", f"{size / 1e6:.0f} MB", value, target, more <= FLAT_MEMORY)
