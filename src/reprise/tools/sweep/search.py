"""Search: an Optuna study that is a file of the sweep, from which the same command carries on where it was killed."""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import optuna
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, Trial, TrialState

from reprise.config.checking import show
from reprise.config.components import validation_metrics
from reprise.config.targets import build
from reprise.errors import ConfigError, InputError, Problem
from reprise.files.atomic_file import write_json
from reprise.files.differences import compare
from reprise.files.json_file import read_object
from reprise.private_names.optuna import trial_id
from reprise.randomness.addresses import search_seed
from reprise.runs.sweep_directory import PRUNED, SweepDirectory
from reprise.text.suggestions import instead
from reprise.tools.sweep.job_record import JobRecord, run_id_of
from reprise.tools.sweep.summary import Job

optuna.logging.set_verbosity(optuna.logging.WARNING)

_LARGEST_SEED = 2**32 - 1


class Search:
    """The trials of one search. A trial is a job; what it shares with all others are the overrides `fixed`.

    `metrics`: what is searched for, `min` or `max` by name. `sampler`: a `_target_` of Optuna with its arguments; each
    trial has one with a seed of its own, so that a search that carries on draws what it would have drawn.
    """

    def __init__(
        self,
        directory: SweepDirectory,
        fixed: Sequence[str],
        space: Mapping[str, BaseDistribution],
        metrics: Mapping[str, str],
        sampler: Mapping[str, Any],
        seed: int,
    ) -> None:
        self._sweep_id, self._fixed, self._space, self._metrics = directory.sweep_id, list(fixed), space, metrics
        self._sampler, self._seed = sampler, seed
        self._build_sampler(0)
        self._study = optuna.create_study(
            study_name=directory.sweep_id,
            storage=study_storage(directory),
            directions=["minimize" if mode == "min" else "maximize" for mode in metrics.values()],
            load_if_exists=True,
        )
        self._define()
        target = {"metrics": dict(metrics), "sampler": dict(sampler)}
        write_json(directory.definition, {**read_object(directory.definition), "search": target})
        self._numbers: dict[str, list[int]] = {}
        """Trials that were not told yet, by run; two may come to the same values."""

    def trials(self, num_trials: int) -> Iterator[tuple[str, list[str]]]:
        """Yield run and overrides of the trials that were under way, and of new ones until there are `num_trials`.

        A new one is asked for when it is taken.
        """
        begun = []
        for trial in self._study.get_trials(deepcopy=False):
            if set(trial.params) == set(self._space):
                begun.append(trial)
            elif trial.state is TrialState.RUNNING:  # killed between two draws: no job was ever started
                self._study.tell(trial.number, state=TrialState.FAIL)
        for trial in begun:
            if trial.state is TrialState.RUNNING:
                yield self._begin(trial.number, trial_id(trial), trial.params)
        for position in range(len(begun), num_trials):
            self._study.sampler = self._build_sampler(position)
            asked = self._study.ask(dict(self._space))
            yield self._begin(asked.number, trial_id(asked), asked.params)

    def overrides(self) -> list[list[str]]:
        """Return the overrides of all trials that have been."""
        trials = self._study.get_trials(deepcopy=False)
        return [self._overrides(trial.params) for trial in trials if set(trial.params) == set(self._space)]

    @property
    def num_told(self) -> int:
        return sum(trial.state.is_finished() for trial in self._study.get_trials(deepcopy=False))

    def tell(self, outcome: JobRecord) -> None:
        """Tell the study how a trial ended; one that was interrupted goes on when the search does.

        Raises:
            InputError: if it has no such metric as is searched for.
        """
        if outcome["status"] == "interrupted":
            return
        number = self._numbers[outcome["run_id"]].pop(0)
        if outcome["status"] == "failed":
            self._study.tell(number, state=TrialState.FAIL)
        elif (outcome["reason"] or "").startswith(PRUNED):
            self._study.tell(number, state=TrialState.PRUNED)
        else:
            found = Job(outcome).metrics
            if missing := [name for name in self._metrics if name not in found]:
                raise InputError(
                    f"hydra.sweeper.metrics: no {' or '.join(missing)} in {outcome['run_id']}, which has "
                    f"{', '.join(sorted(found))}"
                )
            self._study.tell(number, [found[name] for name in self._metrics])

    def _begin(self, number: int, trial_id: int, params: Mapping[str, Any]) -> tuple[str, list[str]]:
        overrides = self._overrides(params)
        run_id = run_id_of(self._sweep_id, overrides)
        self._numbers.setdefault(run_id, []).append(number)
        Trial(self._study, trial_id).set_user_attr("run_id", run_id)  # by which its callback finds it
        return run_id, overrides

    def _overrides(self, params: Mapping[str, Any]) -> list[str]:
        return [*self._fixed, *(f"{key}={params[key]}" for key in self._space)]

    def _build_sampler(self, position: int) -> Any:
        seed = search_seed(self._seed, position) % _LARGEST_SEED
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # it was chosen, and once for each trial is too much
            return build(self._sampler, "hydra.sweeper.sampler", seed=seed)

    def _define(self) -> None:
        """Record what the study is about, or check that it is about the same."""
        asked = {
            "metrics": dict(self._metrics),
            "overrides": self._fixed,
            "space": {key: json.loads(distribution_to_json(found)) for key, found in self._space.items()},
        }
        there = self._study.user_attrs.get("search")
        if there is None:
            self._study.set_user_attr("search", asked)
        elif differences := compare(there, asked):
            raise ConfigError(
                [Problem(d.key, f"{show(d.first)} there, {show(d.second)} asked for") for d in differences],
                f"the search {self._sweep_id!r} exists with another space; only the number of trials may grow; choose "
                "another sweep_id",
            )


def study_storage(directory: SweepDirectory) -> optuna.storages.RDBStorage:
    """Return the storage of a search; several processes write to it."""
    options = {"connect_args": {"timeout": 120}}
    return optuna.storages.RDBStorage(f"sqlite:///{directory.study.absolute()}", engine_kwargs=options)


def trial_of(directory: SweepDirectory, run_id: str, pruner: optuna.pruners.BasePruner) -> Trial | None:
    """Return the trial that a run is carrying out, with the pruner to judge it by; None if it is none."""
    study = optuna.load_study(study_name=directory.sweep_id, storage=study_storage(directory), pruner=pruner)
    running: list[FrozenTrial] = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    for trial in running:
        if trial.user_attrs.get("run_id") == run_id:
            return Trial(study, trial_id(trial))
    return None


def metrics_of(asked: Any, config: DictConfig) -> dict[str, str]:
    """Return what is searched for, `min` or `max` by name: as asked, or `training.monitor`.

    Raises:
        ConfigError: with all that is wrong.
    """
    key, problems = "hydra.sweeper.metrics", []
    if asked is None:
        return {str(config.training.monitor): str(config.training.monitor_mode)}
    metrics: Any = OmegaConf.to_container(asked) if isinstance(asked, DictConfig) else asked
    if not isinstance(metrics, dict) or not metrics:
        raise ConfigError([Problem(key, f"expected metrics and directions, {{val/accuracy: max}}, got {metrics!r}")])
    known = validation_metrics(config.metrics, config.trusted_packages)
    for name, mode in metrics.items():
        if mode not in ("min", "max"):
            problems.append(Problem(f"{key}.{name}", f"expected min or max, got {mode!r}"))
        if name not in known:
            problems.append(Problem(f"{key}.{name}", f"no metric produces {name!r}; {instead(name, known)}"))
    callbacks = [name for name, spec in config.callbacks.items() if spec is not None and _prunes(spec)]
    if callbacks and len(metrics) > 1:
        name = f"callbacks.{callbacks[0]}"
        problems.append(Problem(name, f"a search for several metrics ends no trial early; ~{name} removes it"))
    if problems:
        raise ConfigError(problems)
    return metrics


def _prunes(spec: DictConfig) -> bool:
    return str(spec.get("_target_")).startswith("reprise.tools.sweep.pruning.")


def search_space(overrides: Sequence[Override]) -> tuple[list[str], dict[str, BaseDistribution]]:
    """Return what is the same in all trials, as overrides, and the distribution of every other key.

    Raises:
        ConfigError: with all that is wrong.
    """
    fixed: dict[str, str] = {}
    space: dict[str, BaseDistribution] = {}
    problems: list[Problem] = []
    for override in overrides:
        key = override.get_key_element()
        fixed.pop(key, None)
        space.pop(key, None)
        if not override.is_sweep_override():
            fixed[key] = f"{key}={override.get_value_element_as_str()}"
            continue
        try:
            space[key] = _distribution(override)
        except ValueError as error:
            problems.append(Problem(key, f"{str(override.input_line).partition('=')[2]}: {error}"))
    if not space and not problems:
        problems.append(Problem("hydra.sweeper.params", "a search needs a key with a range, KEY=interval(0.1, 0.5)"))
    if problems:
        raise ConfigError(problems)
    return list(fixed.values()), space


def _distribution(override: Override) -> BaseDistribution:
    value: Any = override.value()
    tags = set(getattr(value, "tags", ()))
    if tags - {"log"}:
        raise ValueError(f"expected the tag log, got {', '.join(sorted(tags - {'log'}))}")
    if isinstance(value, IntervalSweep):
        low: Any = value.start
        high: Any = value.end
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log="log" in tags)
        return FloatDistribution(low, high, log="log" in tags)
    if isinstance(value, RangeSweep):
        values = sorted(value.range())
        if not values:
            raise ValueError("expected a range of at least one value")
        kind: Any = IntDistribution if all(isinstance(one, int) for one in values) else FloatDistribution
        options = {"log": True} if "log" in tags else {"step": abs(value.step)}
        distribution: BaseDistribution = kind(values[0], values[-1], **options)
        return distribution
    if "log" in tags:
        raise ValueError("only an interval or a range can be logarithmic")
    return CategoricalDistribution(list(override.sweep_string_iterator()))
