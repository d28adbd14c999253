"""Checks every `_target_` of a config, and what they have to agree on, before anything is created."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from reprise.config.secrets import is_secret
from reprise.config.targets import check_target, find_target, takes
from reprise.errors import InputError, Problem
from reprise.text.suggestions import instead

OPTIMIZER_ARGUMENTS = ("params", "lr", "weight_decay")
SCHEDULER_ARGUMENTS = ("optimizer", "warmup_steps", "total_steps")
DATA_KEYS = ("num_workers",)
MODEL_KEYS = ("name", "tokenizer")
"""What stands in the data and model sections without being an argument of their targets."""


def data_target(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `_target_` of the data section with its arguments, without what only the loader needs.

    A function that knows nothing of folds and strata can be used as long as nobody asks for them.
    """
    off = {"num_folds"} if section.get("fold") is None else set()
    off |= set() if section.get("stratify") else {"stratify"}
    return {k: v for k, v in section.items() if k not in DATA_KEYS and k not in off and not _unset(k, v)}


def model_target(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `_target_` of the model section with its arguments, without what only names it."""
    return {k: v for k, v in section.items() if k not in MODEL_KEYS and not _unset(k, v)}


def callback_targets(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the callbacks and trackers by name; those that were set to null are left out."""
    sections = (values.get("callbacks"), values.get("tracker"))
    return {name: spec for section in sections if section for name, spec in section.items() if spec is not None}


def validation_metrics(metrics: Any, trusted_packages: Iterable[str] = ()) -> set[str]:
    """Return the names of what an evaluation of the validation split produces, given the metrics section."""
    names = {"val/loss"}
    for _, spec in _items(metrics):
        with suppress(InputError):
            target = find_target(spec.get("_target_"), trusted_packages)
            names |= {f"val/{name}" for name in getattr(target, "names", ())}
    return names


def check_components(values: Mapping[str, Any]) -> list[Problem]:
    """Return what is wrong with the targets of a config given as plain values, and with what they produce."""
    problems: list[Problem] = []
    trusted = [str(package) for package in values.get("trusted_packages") or ()]

    def check(spec: Any, key: str, **options: Any) -> Callable[..., Any] | None:
        if not isinstance(spec, Mapping):
            return None  # the schema says so already
        return check_target(spec, key, problems, trusted_packages=trusted, **options)

    options: dict[str, Any]
    for key, extract, options in (
        ("data", data_target, {"provided": ("seed",), "beside": DATA_KEYS}),
        ("model", model_target, {"open_ended": True, "beside": MODEL_KEYS}),
    ):
        section = values.get(key)
        check(extract(section) if isinstance(section, Mapping) else section, key, **options)

    training = values.get("training")
    training = training if isinstance(training, Mapping) else {}
    check(training.get("optimizer"), "training.optimizer", provided=OPTIMIZER_ARGUMENTS)
    scheduler = check(training.get("scheduler"), "training.scheduler", provided=SCHEDULER_ARGUMENTS)
    if scheduler is not None:
        problems += _scheduler_problems(scheduler, training)

    produced = {"train/loss", "val/loss"}
    for name, spec in _items(values.get("metrics")):
        metric = check(spec, f"metrics.{name}", open_ended=True)
        problems += _kind_problems(metric, f"metrics.{name}", "metric", "compute")
        produced |= {f"val/{value}" for value in getattr(metric, "names", ())}
    monitor = training.get("monitor")
    if isinstance(monitor, str) and monitor not in produced:
        problems.append(Problem("training.monitor", f"no metric produces {monitor!r}; {instead(monitor, produced)}"))

    for name, spec in _items(values.get("tracker")):
        problems += _secrets(f"tracker.{name}", spec)
    for section_name in ("callbacks", "tracker"):
        entries = _items(values.get(section_name))
        for name, spec in entries:
            if isinstance(spec, Mapping) and "_target_" not in spec:
                others = [
                    other for other, its_spec in entries if isinstance(its_spec, Mapping) and "_target_" in its_spec
                ]
                advice = instead(name, others, f"{section_name}.")
                message = f"there is none of this name, and a new one needs a _target_; {advice}"
                problems.append(Problem(f"{section_name}.{name}", message))
            else:
                callback = check(spec, f"{section_name}.{name}")
                problems += _kind_problems(callback, f"{section_name}.{name}", "callback", "on_run_end")
    callbacks = values.get("callbacks") or {}
    for name, purpose in _NEEDED.items():
        if isinstance(callbacks, Mapping) and callbacks.get(name) is None:
            message = f"cannot be left out: {purpose}; callbacks=[default,…] has it, or another _target_ may do it"
            problems.append(Problem(f"callbacks.{name}", message))
    both = set(values.get("callbacks") or ()) & set(values.get("tracker") or ())
    problems += [Problem(f"tracker.{name}", "a callback has this name already") for name in sorted(both)]
    return problems


_NEEDED = {
    "run_layout": "it writes the config into the run directory",
    "checkpoints": "the best one is what is scored and exported",
    "seeding": "it seeds the random generators and puts `deterministic` in force",
}
"""Callbacks that no run can do without."""


def _kind_problems(target: Callable[..., Any] | None, key: str, kind: str, method: str) -> Iterator[Problem]:
    """Yield a problem for a class without the method that makes it what it should be; constructing others may act."""
    if isinstance(target, type) and not hasattr(target, method):
        yield Problem(f"{key}._target_", f"{target.__name__} is no {kind}: it has no method `{method}`")


def _scheduler_problems(scheduler: Callable[..., Any], training: Mapping[str, Any]) -> Iterator[Problem]:
    name = getattr(scheduler, "__name__", str(scheduler))
    if training.get("warmup_steps") and not takes(scheduler, "warmup_steps"):
        yield Problem("training.warmup_steps", f"{name} takes no warm-up; set it to 0 or choose another scheduler")
    if takes(getattr(scheduler, "step", scheduler), "metrics"):
        yield Problem("training.scheduler", f"{name} steps on a metric, but the rate here is a function of the step")


def _secrets(key: str, spec: Any) -> Iterator[Problem]:
    """Yield a problem for each argument of a tracker that holds a secret, without showing it."""
    for name, value in _items(spec):
        if value is not None and (is_secret(str(name)) or str(name).lower() == "key"):
            message = "a secret does not belong into a config, which is written down; set an environment variable"
            yield Problem(f"{key}.{name}", message)


def _items(section: Any) -> list[tuple[str, Any]]:
    return list(section.items()) if isinstance(section, Mapping) else []


def _unset(key: str, value: Any) -> bool:
    return value is None and key in ("path", "train_split", "val_split", "fold", "hidden_size", "num_layers", "dropout")
