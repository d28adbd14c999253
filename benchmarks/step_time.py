"""CPU time of a step, and of the border between two epochs.

All are slopes between steps of one process, so that its start does not count.
"""

import statistics

from measuring import Failed, Measured, Round, Row, compare, measurement, peer, race, reprise_run


class Pace:
    """The steps of a training at which CPU time is taken, and what is read from them.

    `settled` steps after the border of an epoch, what goes on in the background has ended, and from there on time is
    taken every `window` steps. The first epoch does not count.
    """

    def __init__(self, steps_per_epoch: int, num_epochs: int, settled: int, window: int) -> None:
        self.steps_per_epoch = steps_per_epoch
        self._settled = settled
        self._starts = [epoch * steps_per_epoch for epoch in range(1, num_epochs)]
        self._windows = [
            (start + first, start + first + window)
            for start in self._starts
            for first in range(settled, steps_per_epoch, window)
        ]
        self.at = sorted({*self._starts, *(step for pair in self._windows for step in pair)})

    def within(self, measured: Measured) -> float:
        """Return CPU seconds of a step within an epoch: the median over all windows."""
        return statistics.median(_cpu(measured, *window) / (window[1] - window[0]) for window in self._windows)

    def border(self, measured: Measured) -> float:
        """Return CPU seconds from the last step of an epoch to the first of the next, beyond the steps themselves."""
        within = self._settled * self.within(measured)
        return statistics.median(_cpu(measured, start, start + self._settled) - within for start in self._starts)

    def step(self, measured: Measured) -> float:
        """Return CPU seconds of a step with its share of the border."""
        return statistics.median(
            _cpu(measured, start, start + self.steps_per_epoch) / self.steps_per_epoch for start in self._starts
        )


def _cpu(measured: Measured, first: int, last: int) -> float:
    marks = measured.report["marks"]
    seconds: float = marks[str(last)]["cpu"] - marks[str(first)]["cpu"]
    return seconds


def perceptron(num_rounds: int) -> list[Row]:
    """The tiny model: 64 features, 128 hidden units, batch 32, 256 steps an epoch."""
    pace, max_epochs = Pace(256, 31, settled=64, window=64), 31
    overrides = (
        "experiment_name=benchmark",
        "data=points",
        "model=perceptron",
        *training(max_epochs),
        *measurement(pace.at),
    )
    rounds = race(
        [
            peer("bare", "bare_loop.py", "perceptron", 1, max_epochs, *pace.at),
            peer("floor", "tuned_loop.py", 1, max_epochs, *pace.at),
            reprise_run("ours", *overrides),
            reprise_run("ours, tracker=none", *overrides, "tracker=none"),
        ],
        num_rounds,
    )
    check_losses(rounds)
    rows = []
    for name in ("ours", "ours, tracker=none"):
        label = name.replace("ours", "tiny model, a step")
        rows.append(compare(label, rounds, pace.step, ours=name, over="bare", most=0.7))
        rows.append(compare(label, rounds, pace.step, ours=name, over="floor", most=1.4))
    for name in ("ours", "ours, tracker=none"):
        label = name.replace("ours", "tiny model, the border of an epoch")
        # 8 ms where the bare loop takes 4.3.
        rows.append(
            compare(label, rounds, pace.border, ours=name, over="bare", most=round(8 / 4.3, 2), scale=1e3, unit="ms")
        )
    return rows


def vit(num_rounds: int) -> list[Row]:
    """A ViT of 2.7 million parameters; the border of an epoch stands apart, since real epochs are much longer."""
    rows = []
    for num_threads in (1, 2):
        rounds, pace = vit_rounds(num_rounds, num_threads, {"ours": ()}, with_bare=True)
        what = f"ViT of 2.7 M parameters, {num_threads} thread" + "s" * (num_threads - 1)
        rows.append(compare(f"{what}, a step", rounds, pace.within, over="bare", most=1.01, scale=1e3, unit="ms"))
        border = f"{what}, the border of an epoch"
        rows.append(compare(border, rounds, pace.border, over="bare", most=None, scale=1e3, unit="ms"))
    return rows


def deterministic(num_rounds: int) -> list[Row]:
    """The same ViT with deterministic kernels, the default, against without."""
    rounds, pace = vit_rounds(num_rounds, 1, {"ours": (), "bare": ("deterministic=false",)}, with_bare=False)
    row = compare("", rounds, pace.within, over="bare", most=1.02, scale=1e3, unit="ms")
    what = "ViT, deterministic=true against false (stands under bare)"
    return [Row(what, row.bare, "", row.ours, row.value.replace("bare", "false"), row.target, row.reached)]


def vit_rounds(
    num_rounds: int, num_threads: int, ours: dict[str, tuple[str, ...]], *, with_bare: bool
) -> tuple[list[Round], Pace]:
    pace, max_epochs = Pace(16, 4, settled=4, window=1), 4
    overrides = ("experiment_name=benchmark", "data=images", "model=vit", *training(max_epochs), *measurement(pace.at))
    contestants = [reprise_run(name, *overrides, *more, num_threads=num_threads) for name, more in ours.items()]
    if with_bare:
        contestants.append(
            peer("bare", "bare_loop.py", "vit", num_threads, max_epochs, *pace.at, num_threads=num_threads)
        )
    rounds = race(contestants, num_rounds)
    check_losses(rounds)
    return rounds, pace


def training(max_epochs: int) -> tuple[str, ...]:
    """Return the overrides that make Reprise train as the bare loop does; all else is left as it comes."""
    return (
        f"training.max_epochs={max_epochs}",
        "training.learning_rate=0.001",
        "training.warmup_steps=100",
        "training.log_every_steps=1",
    )


def check_losses(rounds: list[Round]) -> None:
    """Raise Failed unless all contestants learnt: validation losses are finite and within a tenth of each other."""
    for measured in rounds:
        losses = {name: one.report["val_loss"] for name, one in measured.items()}
        if not max(losses.values()) <= 1.1 * min(losses.values()):
            raise Failed(f"not the same training, by the losses at its end: {losses}")
