"""Most resident memory of a whole process, beside that of the bare loop.

The model is tiny, so that what is counted is code and what it keeps, not tensors; buffers for checkpoints are as small.
"""

from measuring import Measured, Row, compare, measurement, peer, race, reprise_run
from step_time import training

MAX_EPOCHS, STEPS = 3, 3 * 256
NEVER = 10**9


def memory(num_rounds: int) -> list[Row]:
    overrides = ("experiment_name=benchmark", "data=points", "model=perceptron", *training(MAX_EPOCHS))
    rounds = race(
        [
            peer("bare", "bare_loop.py", "perceptron", 1, MAX_EPOCHS, NEVER),
            reprise_run("ours", *overrides),
            reprise_run("training", *overrides, *measurement([STEPS])),
            reprise_run("tracker=none", *overrides, "tracker=none"),
        ],
        num_rounds,
        in_turns=False,
    )

    def row(what: str, ours: str) -> Row:
        return compare(what, rounds, peak, ours=ours, over="bare", most=40, scale=1e-6, unit="MB", difference=True)

    return [
        row("peak memory of a whole run", "ours"),
        row("the same up to the last step", "training"),
        row("a whole run, tracker=none", "tracker=none"),
    ]


def peak(measured: Measured) -> float:
    return measured.peak
