"""Facts about code, environment and hardware, as far as they can be measured."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import torch

from reprise.atomic_file import write_json


def collect_provenance(overrides: Sequence[str], device: torch.device, deterministic: bool | str) -> dict[str, Any]:
    """Return what is known before there is any data or model."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "code": _code(),
        "command": {"argv": list(sys.argv), "overrides": list(overrides)},
        "environment": {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "packages": {
                name: distribution.version
                for distribution in sorted(metadata.distributions(), key=lambda d: str(d.name).lower())
                if (name := distribution.name)
            },
        },
        "hardware": _hardware(device),
        "determinism": {
            "deterministic": deterministic,
            "num_threads": torch.get_num_threads(),
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
            **{name: os.environ.get(name) for name in ("CUBLAS_WORKSPACE_CONFIG", "PYTHONHASHSEED")},
        },
    }


def update_provenance(path: Path, **facts: Any) -> None:
    """Add facts to a provenance file; what is there already stays."""
    if path.exists():
        write_json(path, facts | json.loads(path.read_text(encoding="utf-8")))


def _code() -> dict[str, Any]:
    root = Path(__file__).parent
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return {"commit": None, "branch": None, "remote": None, "dirty": None}
    return {
        "commit": commit,
        "branch": _git(root, "rev-parse", "--abbrev-ref", "HEAD"),
        "remote": _without_credentials(_git(root, "config", "--get", "remote.origin.url")),
        # uv writes its lock at the first `uv run`; the versions in use are recorded anyway.
        "dirty": bool(_git(root, "status", "--porcelain", "--", ":/", ":(top,exclude)uv.lock")),
    }


def _git(root: Path, *arguments: str) -> str | None:
    try:
        result = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


def _without_credentials(remote: str | None) -> str | None:
    if remote is None or "://" not in remote:
        return remote
    parts = urlsplit(remote)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))


def _hardware(device: torch.device) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "machine": platform.machine(),
        "cpu": _cpu_model(),
        "num_cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "num_threads": torch.get_num_threads(),
        "device": str(device),
        "gpus": [],
        "cuda": None,
        "cudnn": None,
    }
    if device.type == "cuda":
        properties = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        facts["gpus"] = [{"name": p.name, "memory_bytes": p.total_memory} for p in properties]
        facts["cuda"] = torch.version.cuda
        facts["cudnn"] = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return facts


def _cpu_model() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)
