"""The checks of what a run started from: each takes the files and returns the evidence, or raises what is wrong."""

import hashlib
import re

from reprise.config import ExperimentConfig
from reprise.errors import CheckFailed, CheckNotApplicable
from reprise.files.differences import compare
from reprise.files.json_values import at, list_at, mapping_at, mappings_at, text_at
from reprise.randomness.addresses import after_evaluation_seed, after_step_seed, sample_seed, step_seed
from reprise.tools.checklist.files import RunFiles, as_code, named

_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_DEBUG_MODES: dict[object, str] = {False: "default", True: "warn", "strict": "error"}
# Facts of which another value gives other bits, or may; a renamed branch does not.
_DECIDING = re.compile(
    r"code\.(reprise|commit|patch_sha256|files_sha256)|environment\.(python|packages\..*)"
    r"|hardware\.(machine|cpu|instruction_set|num_threads|device|gpus|cuda|cudnn)"
)


def check_seeds(files: RunFiles) -> str:
    seed, checkpoint = files.config.seed, files.whole[0]
    places = {
        after_evaluation_seed(seed, "val"),
        sample_seed(seed, "val", 0, files.num_samples("val") - 1),
        after_step_seed(seed, checkpoint.step - 1),
        step_seed(seed, checkpoint.step - 1, 0),
    }
    if checkpoint.seed not in places:
        raise CheckFailed(
            f"The random state in `{checkpoint.name}` is not where seed {seed} puts it: something else has seeded."
        )
    return f"Seed {seed} in `config.json`; the random state in `{checkpoint.name}` is where this seed puts it."


def check_config(files: RunFiles) -> str:
    config = files.config.to_dict()
    recorded = [
        (at(change, "key"), value) for change in files.changes for value in (change.get("from"), change.get("to"))
    ]
    changed = set()
    for checkpoint in files.whole:
        for difference in compare(config, ExperimentConfig.from_dict(dict(checkpoint.config)).to_dict()):
            if (difference.key, difference.second) not in recorded:
                raise CheckFailed(
                    f"`{difference.key}` is {as_code(difference.first)} in `config.json`, but "
                    f"{as_code(difference.second)} in `{checkpoint.name}`."
                )
            changed.add(difference.key)
    names = " and ".join(f"`{checkpoint.name}`" for checkpoint in files.whole)
    but = f", apart from recorded changes of {named(sorted(changed))}" if changed else ""
    return f"`config.json` loads, and is what {names} hold{'s' if len(files.whole) == 1 else ''}{but}."


def check_code(files: RunFiles) -> str:
    code = mapping_at(files.provenance, "code")
    commit, recorded = text_at(code, "commit"), text_at(code, "patch_sha256")
    files_sha256 = text_at(code, "files_sha256")
    if commit is None and files_sha256 is not None and _SHA256.fullmatch(files_sha256):
        return f"No git history; the code is recorded by the hash of its files, `{files_sha256[:12]}`."
    if commit is None or not _COMMIT.fullmatch(commit):
        raise CheckFailed("No commit is recorded: the code was not in a git repository.")
    if recorded is None and code.get("dirty") is not True:
        return f"Commit `{commit[:12]}`, without changes."
    if recorded is None and "patch_sha256" in code:
        return f"Commit `{commit[:12]}`; what was changed is not code under `src`, `configs` or `scripts`."
    try:
        patch = files.run.code_patch.read_bytes()
    except OSError:
        raise CheckFailed(f"Commit `{commit[:12]}` with changes, but `code.patch` is missing.") from None
    if recorded is not None and hashlib.sha256(patch).hexdigest() != recorded:
        raise CheckFailed("`code.patch` is not what was recorded, by its sha256.")
    return f"Commit `{commit[:12]}` with the changes in `code.patch`."


def check_packages(files: RunFiles) -> str:
    environment = mapping_at(files.provenance, "environment")
    if not mapping_at(environment, "packages"):
        raise CheckFailed("The installed packages are not recorded.")
    if environment.get("not_as_locked") is None:
        raise CheckNotApplicable("There was no `requirements.lock` to hold the packages against.")
    others = mapping_at(environment, "not_as_locked")
    if others:
        raise CheckFailed(f"Other than in `requirements.lock`, or not in it: {named(list(others))}.")
    return f"{len(mapping_at(environment, 'packages'))} packages recorded; none is other than in `requirements.lock`."


def check_fingerprints(files: RunFiles) -> str:
    splits = mapping_at(files.provenance, "data", "splits")
    if not splits:
        raise CheckFailed("The data is not recorded.")
    hashes = {f"the split `{name}`": text_at(splits, name, "sha256") for name in splits}
    hashes["the initial weights"] = text_at(files.provenance, "model", "initial_sha256")
    lacking = [name for name, value in hashes.items() if value is None or not _SHA256.fullmatch(value)]
    if lacking:
        raise CheckFailed(f"No sha256 is recorded of {', '.join(lacking)}.")
    return f"sha256 of {', '.join(hashes)}."


def check_determinism(files: RunFiles) -> str:
    tier, facts = files.config.deterministic, mapping_at(files.provenance, "determinism")
    mode = text_at(facts, "debug_mode")
    if mode is None:
        raise CheckFailed("The settings in force are not recorded.")
    if mode != _DEBUG_MODES[tier]:
        raise CheckFailed(f"`deterministic` is {as_code(tier)}, but torch was in the mode {as_code(mode)}.")
    if tier is False:
        raise CheckFailed("`deterministic: false` is for speed: nothing is promised about the bits.")
    warned = [str(name) for name in list_at(facts, "nondeterministic_operations")]
    if warned:
        raise CheckFailed(
            f"Operations without a deterministic implementation: {', '.join(f'`{name}`' for name in warned)}."
        )
    if "nondeterministic_operations" not in facts:
        raise CheckFailed("It is not recorded whether an operation lacks a deterministic implementation.")
    if tier == "strict":
        return "`deterministic: strict`: an operation without a deterministic implementation would have failed."
    return "`deterministic: true`, and no operation warned that it has no deterministic implementation."


def check_repeatable(files: RunFiles) -> str:
    num_threads = files.config.num_threads
    if num_threads is None:
        raise CheckFailed("`num_threads` is open in `config.json`, and it changes bits.")
    if not files.attempts:
        raise CheckFailed("No attempt is recorded in `status.json`.")
    for number, attempt in enumerate(files.attempts, 1):
        moved = [
            str(fact["fact"]) for fact in mappings_at(attempt, "drift") if _DECIDING.fullmatch(str(fact.get("fact")))
        ]
        if moved:
            raise CheckFailed(f"Attempt {number} ran with other facts than the first: {named(moved)}.")
    if files.changes:
        keys = named(sorted({str(change.get("key")) for change in files.changes}))
        raise CheckNotApplicable(f"The config was changed on the way ({keys}); only repeating the run tells.")
    return f"One config, code and machine throughout, {num_threads} thread{'s' if num_threads > 1 else ''}."
