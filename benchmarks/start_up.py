"""CPU seconds from the start of a process to its first optimizer step, those of its child processes included.

The measuring callback sees only children that have ended by then.
"""

from measuring import Measured, Row, compare, measurement, peer, race, reprise_run, run


def first_step(num_rounds: int) -> list[Row]:
    plain = ("experiment_name=benchmark", "data=points", "model=perceptron")
    vit = ("experiment_name=benchmark", "data=images", "model=vit")
    contestants = [
        peer("floor", "import_torch.py"),
        peer("bare", "bare_loop.py", "perceptron", 1, 1, 1),
        peer("bare, transformers", "bare_loop.py", "vit", 1, 1, 1),
        reprise_run("ours", *plain, *measurement([1])),
        reprise_run("ours, tracker=none", *plain, *measurement([1]), "tracker=none"),
        reprise_run("ours, transformers", *vit, *measurement([1])),
        reprise_run("experiment=base", "experiment=base", *measurement([1])),
    ]
    for contestant in contestants:
        run(contestant)  # the first time, files come from the disk
    rounds = race(contestants, num_rounds)

    def row(what: str, name: str, most: float | None) -> Row:
        return compare(what, rounds, seconds, ours=name, over="floor", most=most, scale=1, unit="s", difference=True)

    return [
        row("a bare loop, to the first step (stands under ours)", "bare", None),
        row("a bare loop with a model of transformers (stands under ours)", "bare, transformers", None),
        row("plain model and tensors, to the first step", "ours", 0.6),
        row("the same, tracker=none", "ours, tracker=none", 0.6),
        row("model of transformers, to the first step", "ours, transformers", 1.0),
        row("experiment=base, to the first step", "experiment=base", 1.0),
    ]


def seconds(measured: Measured) -> float:
    """Return the CPU seconds at the only mark."""
    (mark,) = measured.report["marks"].values()
    cpu: float = mark["cpu"]
    return cpu
