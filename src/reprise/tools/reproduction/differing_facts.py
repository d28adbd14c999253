"""Collects the facts in which a run and its repeat differ: config, code, data, environment, hardware."""

from collections.abc import Mapping
from typing import Any

from reprise.config import ExperimentConfig
from reprise.files.differences import Difference, compare
from reprise.runs.checkpoint import read_checkpoint
from reprise.runs.provenance import read_provenance
from reprise.runs.run_directory import RunDirectory
from reprise.tools.reproduction.explanation import Facts
from reprise.tools.variants import PLACE_KEYS, moves_bits


def differing_facts(recorded: RunDirectory, repeated: RunDirectory, code: Mapping[str, Any]) -> Facts:
    """Return what is known to differ between a run and its repeat; `code`: what is known about the code."""
    config, status = ExperimentConfig.load(recorded.config), recorded.read_status()
    then, now = provenance_of(recorded), provenance_of(repeated)
    resumed = [attempt for attempt in status.get("attempts", ())[1:] if attempt["from_step"]]
    here = {fact.key: fact.second for fact in compare({}, now)}
    changes = [
        (attempt["from_step"], Difference(change["key"], change["from"], change["to"]))
        for attempt in resumed
        for change in attempt["changes"]
    ]
    sections = [name for name in ("environment", "hardware", "determinism") if name in then and name in now]
    splits = other_splits(then, now)
    differences = compare({name: then[name] for name in sections}, {name: now[name] for name in sections})
    differences += [Difference(f"data.splits.{name}.sha256", None, None) for name in splits]
    weights = [facts.get("model", {}).get("initial_sha256") for facts in (then, now)]
    if None not in weights and weights[0] != weights[1]:
        differences.append(Difference("model.initial_sha256", *weights))
    return Facts(
        provenance=differences,
        config=_changed_config(recorded, config, {change.key for _, change in changes}),
        extensions=[(step, change) for step, change in changes if moves_bits(change.key)],
        moves=[
            (attempt["from_step"], Difference(fact["fact"], fact["now"], here.get(fact["fact"])))
            for attempt in resumed
            for fact in attempt["drift"]
            if here.get(fact["fact"]) != fact["now"]
        ],
        parts={path: part for part, target in _targets(config) for path in _source_files(target)},
        settings={
            "deterministic": config.deterministic,
            "compile": config.training.compile,
            "num_threads": config.num_threads,
            "PYTHONHASHSEED": then.get("determinism", {}).get("PYTHONHASHSEED"),
            "nondeterministic_operations": then.get("determinism", {}).get("nondeterministic_operations", []),
            "unknown_splits": [
                name for name, split in then.get("data", {}).get("splits", {}).items() if split.get("sha256") is None
            ],
        },
        **code,
    )


def other_splits(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the splits whose content is known to differ."""
    first, second = (facts.get("data", {}).get("splits", {}) for facts in (then, now))
    if not first or not second:
        return []
    return [name for name in {**first, **second} if first.get(name) != second.get(name)]


def _changed_config(recorded: RunDirectory, config: ExperimentConfig, by_resume: set[str]) -> list[Difference]:
    """Return the keys of `config.json` that are not what the last checkpoint was trained with."""
    if not recorded.last_checkpoint.exists():
        return []
    trained = read_checkpoint(recorded.last_checkpoint)["config"]
    apart = {*PLACE_KEYS, "trusted_packages", *by_resume}
    return [change for change in compare(trained, config.to_dict()) if change.key not in apart]


def _targets(config: ExperimentConfig) -> list[tuple[str, str]]:
    targets = {"data": config.data.target, "model": config.model.target}
    return [(part, target) for part, target in targets.items() if target is not None]


def _source_files(target: str) -> list[str]:
    module = "src/" + target.rpartition(".")[0].replace(".", "/")
    return [f"{module}.py", f"{module}/__init__.py"]


def provenance_of(run: RunDirectory) -> dict[str, Any]:
    """Return the recorded facts of a run; empty if there are none."""
    return read_provenance(run.provenance) if run.provenance.exists() else {}
