"""Puts facts that differ between a run and its repeat into sentences, each with the kind of cause that it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from reprise.files.differences import Difference
from reprise.tools.reproduction.findings import value_text


@dataclass(frozen=True)
class Cause:
    kind: str
    sentence: str


_LIBRARIES = ("transformers", "numpy", "scikit-learn", "tokenizers", "datasets", "safetensors")
# Facts that have no way into a result, or that stand there twice.
_IGNORED = (
    *("hardware.memory_bytes", "hardware.num_cores", "environment.not_as_locked"),
    "determinism.nondeterministic_operations",
)
_CODE_WORDS = {
    "commit": "commit",
    "patch_sha256": "uncommitted changes with sha256",
    "reprise": "version of the engine",
}


def causes_from_facts(differences: Sequence[Difference]) -> list[Cause]:
    """Return what each fact that differs has to say, in the order given; facts that cannot move bits say nothing."""
    found = []
    for fact in differences:
        section, _, name = fact.key.partition(".")
        if fact.key.startswith(_IGNORED):
            continue
        split = split_of(fact.key)
        if split is not None:
            kind = "train data" if split == "train" else "other data"
            found.append(Cause(kind, f"data split `{split}` has another fingerprint"))
        elif fact.key == "model.initial_sha256":
            found.append(Cause("initial weights", "the initial weights are others"))
        elif fact.key.startswith("environment.packages."):
            found.append(_package(name.removeprefix("packages."), fact))
        elif name in _WORDS and section in ("environment", "hardware", "determinism"):
            kind, sentence = _WORDS[name]
            found.append(Cause(kind, sentence(fact.first, fact.second)))
        elif section == "determinism":
            word = f"environment variable {name}" if name.isupper() else f"setting {name}"
            kind = "hash seed" if name == "PYTHONHASHSEED" else "variable" if name.isupper() else "determinism"
            found.append(Cause(kind, f"{word}: {_arrow(fact.first, fact.second)}"))
        elif section in ("environment", "hardware"):
            found.append(Cause("platform", f"{name.replace('_', ' ')}: {_arrow(fact.first, fact.second)}"))
        elif section == "code" and name in _CODE_WORDS:
            found.append(Cause("code", f"{_CODE_WORDS[name]} {_arrow(fact.first, fact.second)}"))
    return found


def split_of(key: str) -> str | None:
    """Return the split whose content a fact is about."""
    if key.startswith("data.splits.") and key.endswith((".sha256", ".num_samples")):
        return key.removeprefix("data.splits.").rpartition(".")[0]
    return None


def _package(name: str, fact: Difference) -> Cause:
    kind = "torch" if name == "torch" else "gpu" if name.startswith(("nvidia-", "triton")) else "package"
    versions = " → ".join("not installed" if version is None else str(version) for version in (fact.first, fact.second))
    return Cause("library" if name in _LIBRARIES else kind, f"{name} {versions}")


def _arrow(first: Any, second: Any) -> str:
    texts = ("not set" if v is None else v if isinstance(v, str) else value_text(v) for v in (first, second))
    return " → ".join(texts)


def _named(word: str) -> Callable[[Any, Any], str]:
    return lambda first, second: f"{word} {_arrow(first, second)}"


def _kernels(first: Any, second: Any) -> str:
    names = [str(value).replace("AVX512", "AVX-512").replace("DEFAULT", "default") for value in (first, second)]
    return f"recorded with {names[0]} kernels, here {names[1]}"


def _gpus(first: Any, second: Any) -> str:
    names = (", ".join(str(gpu.get("name")) for gpu in gpus or ()) or "none" for gpus in (first, second))
    return f"GPU {' → '.join(names)}"


_WORDS: dict[str, tuple[str, Callable[[Any, Any], str]]] = {
    "instruction_set": ("instruction set", _kernels),
    "num_threads": ("threads", lambda a, b: f"{a} {'thread' if a == 1 else 'threads'} → {b}"),
    "num_processes": ("threads", _named("processes that shared the run")),
    "device": ("device", _named("device")),
    "gpus": ("gpu", _gpus),
    "cuda": ("gpu", _named("CUDA")),
    "cudnn": ("gpu", _named("cuDNN")),
    "driver": ("gpu", _named("the driver of the GPU")),
    "cpu": ("processor", _named("processor")),
    "python": ("python", _named("Python")),
    "platform": ("platform", _named("operating system")),
    "debug_mode": ("determinism", _named("deterministic kernels:")),
}
