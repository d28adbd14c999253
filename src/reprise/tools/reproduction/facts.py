"""Collects the facts in which a run and its repeat differ: config, code, data, environment, hardware."""

from collections.abc import Mapping, Sequence
from typing import Any

from reprise.config import ExperimentConfig
from reprise.files.differences import Difference, compare
from reprise.files.json_values import at, mapping_at
from reprise.runs.checkpoint import read_checkpoint
from reprise.runs.provenance import read_provenance
from reprise.runs.run_directory import RunDirectory
from reprise.tools.reproduction.causes import split_of
from reprise.tools.variants import PLACE_KEYS, moves_bits

_COMPARED = (("environment",), ("hardware",), ("determinism",), ("data", "splits"), ("model", "initial_sha256"))


def differing_facts(recorded: RunDirectory, repeated: RunDirectory) -> list[Difference]:
    """Return what is known to differ between a run and its repeat, by the keys that `explain` takes."""
    then, now = (read_provenance(run.provenance) for run in (recorded, repeated))
    here = {fact.key: fact.second for fact in compare({}, now)}
    resumed = [attempt for attempt in recorded.read_status().get("attempts", ())[1:] if attempt["from_step"]]
    changes = [(attempt["from_step"], change) for attempt in resumed for change in attempt["changes"]]
    return [
        *_changed_config(recorded, {change["key"] for _, change in changes}),
        *(
            Difference(f"extension.{step}.{change['key']}", change["from"], change["to"])
            for step, change in changes
            if moves_bits(change["key"])
        ),
        *(
            Difference(f"resumed.{attempt['from_step']}.{fact['fact']}", fact["now"], here.get(fact["fact"]))
            for attempt in resumed
            for fact in attempt["drift"]
            if here.get(fact["fact"]) != fact["now"]
        ),
        *_differences(then, now),
    ]


def differing_splits(first: RunDirectory, second: RunDirectory) -> list[str]:
    """Return the splits whose content is known to differ."""
    differences = _differences(*(read_provenance(run.provenance) for run in (first, second)))
    return list(dict.fromkeys(split for fact in differences if (split := split_of(fact.key)) is not None))


def parts_of(config: ExperimentConfig) -> dict[str, str]:
    """Return of the files in which the run's own parts can stand whether they are its `data` or its `model`."""
    targets = {"data": config.data.target, "model": config.model.target}
    modules = {
        part: "src/" + target.rpartition(".")[0].replace(".", "/")
        for part, target in targets.items()
        if target is not None
    }
    return {f"{module}{ending}": part for part, module in modules.items() for ending in (".py", "/__init__.py")}


def candidates(run: RunDirectory, disagreement: Sequence[str]) -> list[str]:
    """Return what can make this run differ from its repeat although no recorded fact does.

    `disagreement`: in what two repeats differ from each other.
    """
    config, facts, found = ExperimentConfig.load(run.config), read_provenance(run.provenance), []
    hash_seed_is_open = at(facts, "determinism", "PYTHONHASHSEED") is None
    data_differ = any("data split" in text for text in disagreement)
    if data_differ and hash_seed_is_open:
        found.append("data code that iterates over a `set`: PYTHONHASHSEED was not set; sort it")
    if config.deterministic is False:
        found.append("kernels that are not deterministic: deterministic=false")
    if operations := at(facts, "determinism", "nondeterministic_operations"):
        found.append(f"operations without a deterministic implementation: {', '.join(operations)}")
    if config.training.compile and config.num_threads != 1:
        found.append(f"training.compile with {config.num_threads} threads")
    for name, split in mapping_at(facts, "data", "splits").items():
        if split.get("sha256") is None:
            found.append(f"data split `{name}`, of which no fingerprint was recorded")
    found.append("a data set, model or callback that draws from a generator that nothing seeds, or reads clock or disk")
    if hash_seed_is_open and not data_differ:
        found.append("code that iterates over a `set`: PYTHONHASHSEED was not set")
    return found


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """Return the facts of the provenance that both runs recorded, and recorded differently."""
    both = {".".join(path): (at(then, *path), at(now, *path)) for path in _COMPARED}
    known = {key: values for key, values in both.items() if None not in values and {} not in values}
    return compare({key: values[0] for key, values in known.items()}, {key: values[1] for key, values in known.items()})


def _changed_config(recorded: RunDirectory, by_resume: set[str]) -> list[Difference]:
    """Return the keys of `config.json` that are not what the last checkpoint was trained with."""
    if not recorded.last_checkpoint.exists():
        return []
    trained = read_checkpoint(recorded.last_checkpoint)["config"]
    apart = {*PLACE_KEYS, "trusted_packages", *by_resume}
    changes = compare(trained, ExperimentConfig.load(recorded.config).to_dict())
    return [Difference(f"config.{c.key}", c.first, c.second) for c in changes if c.key not in apart]
