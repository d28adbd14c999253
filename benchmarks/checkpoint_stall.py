"""For how long training stands still for a checkpoint: 101 million parameters with AdamW's state, 1.2 GB.

Wall seconds of `Checkpoints.on_commit` in the training thread, wherever the writing itself goes on.
"""

import itertools
import statistics

from measuring import Measured, Row, compare, peer, race, reprise_run

# Steps from one checkpoint to the next, so that what is written in the background has been written by then.
EVERY_STEPS, NUM_DUE = 30, 3


def checkpoint(num_rounds: int, device: str = "cpu") -> list[Row]:
    rounds = race(
        [
            peer("floor", "keep_state.py", "copy", 3, device),
            peer("bare", "keep_state.py", "save", 2, device),
            reprise_run(
                "ours",
                "experiment_name=benchmark",
                "data=points",
                "model=wide",
                "callbacks=[default,timed_checkpoints]",
                "callbacks.checkpoints.report={report}",
                f"callbacks.checkpoints.leave_after={EVERY_STEPS * NUM_DUE}",
                f"training.checkpoint_every_steps={EVERY_STEPS}",
                "training.log_every_steps=1",
                "training.batch_size=1",
                "training.learning_rate=1e-5",
                device=device,
            ),
        ],
        num_rounds,
        in_turns=False,
    )
    row = compare("stall when last.pt is due", rounds, stall, over="floor", most=2.0, scale=1, unit="s")
    first = compare(
        "the first, which makes its buffers", rounds, first_stall, over="floor", most=None, scale=1, unit="s"
    )
    save = compare("stall when last.pt is due", rounds, stall, over="bare", most=None, scale=1, unit="s")
    ours = [measured["ours"] for measured in rounds]
    nothing = statistics.median(map(nothing_due, ours)) * 1e6
    steps, after = (statistics.median(map(seconds, ours)) for seconds in (early_steps, later_steps))
    return [
        row,
        save,
        first,
        Row("when nothing is due", ours=f"{nothing:.1f} µs", target="≤ 100 µs", reached=nothing <= 100),
        Row(
            f"wall time of {EVERY_STEPS} steps with the checkpoint that is written meanwhile",
            bare=f"{steps:.1f} s without",
            ours=f"{after:.1f} s",
            value=f"{after - steps:+.1f} s",
        ),
    ]


def stall(measured: Measured) -> float:
    """Return the median over the checkpoints after the first."""
    return statistics.median(end - began for began, end in due(measured)[1:])


def first_stall(measured: Measured) -> float:
    began, end = due(measured)[0]
    return end - began


def due(measured: Measured) -> list[tuple[float, float]]:
    commits = measured.report["commits"]
    return commits if len(commits) < EVERY_STEPS else commits[EVERY_STEPS - 1 :: EVERY_STEPS]


def nothing_due(measured: Measured) -> float:
    commits = measured.report["commits"]
    return statistics.median(end - began for i, (began, end) in enumerate(commits, 1) if i % EVERY_STEPS)


def early_steps(measured: Measured) -> float:
    """Return the wall seconds of as many steps as lie between two checkpoints, before the first."""
    commits = measured.report["commits"]
    first, last = 1, EVERY_STEPS - 2
    return (commits[last][1] - commits[first][1]) / (last - first) * EVERY_STEPS


def later_steps(measured: Measured) -> float:
    """Return the wall seconds from the end of one checkpoint to that of the next."""
    ends = [end for _, end in due(measured)]
    return statistics.median(later - earlier for earlier, later in itertools.pairwise(ends))
