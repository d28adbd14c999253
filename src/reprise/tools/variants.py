"""Decides which runs are repetitions of one variant, and which keys of a config can make no difference."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

REPETITION_KEYS = ("seed", "data.fold")
"""Runs that differ in these keys only are repetitions of one variant."""
PLACE_KEYS = ("run_id", "sweep_id", "output_dir")
"""What a run is called and where it lies."""
PRODUCT_KEYS = ("preflight", "export.onnx", "export.torch_export")
"""What is written about a run once it is trained."""
ABSENT = object()
"""Stands for the value of a key that a config does not have."""

_INERT_KEYS = (
    "data.num_workers",
    "training.checkpoint_every_",
    "callbacks.progress",
    "callbacks.checkpoints",
    "card.",
    "tracker.",
)

Item = TypeVar("Item")


def moves_bits(key: str) -> bool:
    """Return whether a change of this key by `resume` can change the result of the run."""
    return not key.startswith(_INERT_KEYS)


def differing_keys(configs: Sequence[Mapping[str, Any]], ignored: Collection[str]) -> list[str]:
    """Return the dotted keys that are not the same in all of these flat configs, those of `REPETITION_KEYS` last."""
    keys = {key for config in configs for key in config} - {*ignored}
    differing = [key for key in keys if len({repr(config.get(key, ABSENT)) for config in configs}) > 1]
    return sorted(differing, key=lambda key: (key in REPETITION_KEYS, key))


def group_variants(
    runs: Iterable[Item], config_of: Callable[[Item], Mapping[str, Any]], keys: Iterable[str]
) -> list[tuple[dict[str, Any], list[Item]]]:
    """Return each variant's values of `keys`, apart from those that it lacks, and its runs.

    Only the keys that are not in `REPETITION_KEYS` tell variants apart.
    """
    names = [key for key in keys if key not in REPETITION_KEYS]
    groups: dict[tuple[str, ...], tuple[dict[str, Any], list[Item]]] = {}
    for run in runs:
        config = config_of(run)
        chosen = {name: config[name] for name in names if name in config}
        groups.setdefault(tuple(repr(config.get(name, ABSENT)) for name in names), (chosen, []))[1].append(run)
    return list(groups.values())
