"""What a job of a sweep costs beyond the job, in one process.

All CPU time of the process, less what is spent inside of `train`, is measured for sweeps of two lengths; its slope is
what one more job adds outside of the job. Composing a config with Hydra alone is taken off.
"""

from measuring import BENCHMARKS, Contestant, Measured, Row, compare, race, reprise_command

FEW, MANY = 2, 22


def sweep(num_rounds: int) -> list[Row]:
    rounds = race([contestant(how, n) for n in (FEW, MANY) for how in ("hydra", "reprise")], num_rounds)
    # From here on a measurement stands for both lengths.
    for measured in rounds:
        for name, how in (("bare", "hydra"), ("ours", "reprise")):
            few, many = (measured[f"{how} {n}"].report for n in (FEW, MANY))
            outside = (many["outside"] - few["outside"]) / (MANY - FEW)
            measured[name] = Measured({**many, "outside": outside}, 0.0, 0)

    def row(what: str, amount, most: float | None = None) -> Row:  # type: ignore[no-untyped-def]
        return compare(what, rounds, amount, over="bare", most=most, scale=1e3, unit="ms", difference=True)

    overhead = row("a job of a sweep, beyond the job and composing (bare: Hydra's launcher, empty job)", beyond)
    ours = float(overhead.ours.split()[0])
    composing = row("composing the config of a job", lambda measured: measured.report["compose"])
    job = row("the job: two steps of the tiny model, in full", lambda measured: measured.report["job"])
    return [
        Row(overhead.what, overhead.bare, "", overhead.ours, "", "≤ 60 ms", ours <= 60),
        Row(composing.what, composing.bare, "", composing.ours),
        Row(job.what, "", "", job.ours),
    ]


def beyond(measured: Measured) -> float:
    seconds: float = measured.report["outside"] - measured.report["compose"]
    return seconds


def contestant(how: str, num_jobs: int) -> Contestant:
    script = str(BENCHMARKS / "contestants" / "timed_sweep.py")
    overrides = (
        "experiment_name=benchmark",
        "data=points",
        "model=perceptron",
        "training.max_steps=2",
        "num_threads=1",
    )
    if how == "hydra":
        overrides += ("hydra/sweeper=basic", "hydra/launcher=basic", "hydra.sweep.dir={outputs}")
    seeds = ",".join(map(str, range(num_jobs)))
    return Contestant(
        f"{how} {num_jobs}", (script, "{report}", how, "-m", *reprise_command()[1:], *overrides, f"seed={seeds}")
    )
