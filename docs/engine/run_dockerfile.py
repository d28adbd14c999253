"""Carries out the steps of the Dockerfile in a Debian root directory, where no container engine runs.

As root, on Debian with debootstrap, from a clean clone:

    python3 docs/engine/run_dockerfile.py ROOT [ARGUMENT …]

Makes ROOT if it is not there (about 7 GB), carries out each instruction in it with chroot, and at last the entry point
with the arguments, as the user that the Dockerfile names. The base image's Python is replaced by Debian's, in a virtual
environment that comes first in PATH; what a build mounts as a cache is a directory. Nothing is isolated from this
machine but the files.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

SUITE, PYTHON = "bookworm", "/opt/python"
PROJECT = Path(__file__).resolve().parents[2]
HOST = ("/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf")  # how this machine reaches an index


class Build:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.directory, self.user = "/", "root"
        self.variables = {"PATH": f"{PYTHON}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        self.variables |= {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))}
        self.entry_point: list[str] = []

    def run(self, command: list[str]) -> None:
        folder = shlex.quote(self.directory)
        subprocess.run(
            ["chroot", f"--userspec={self.user}", self.root, "sh", "-c", f'cd {folder} && exec "$@"', "sh", *command],
            env=self.variables,
            check=True,
        )

    def carry_out(self, instruction: str, rest: str) -> None:
        match instruction:
            case "FROM":
                self.make_base()
            case "ARG":
                name, _, value = rest.partition("=")
                self.variables[name] = value
            case "ENV":
                self.variables |= dict(word.split("=", 1) for word in shlex.split(rest))
            case "WORKDIR":
                self.directory = rest
                (self.root / rest.strip("/")).mkdir(parents=True, exist_ok=True)
            case "USER":
                self.user = rest
            case "RUN":
                command = re.sub(r"^--mount=\S+\s+", "", rest)
                self.run(["sh", "-e", "-c", command])
            case "COPY":
                self.copy(rest)
            case "ENTRYPOINT":
                self.entry_point = json.loads(rest)
            case "VOLUME":
                pass
            case _:
                sys.exit(f"{instruction}: not known here")

    def make_base(self) -> None:
        if not (self.root / "etc").is_dir():
            packages = "ca-certificates,python3,python3-venv"
            subprocess.run(["debootstrap", "--variant=minbase", f"--include={packages}", SUITE, self.root], check=True)
            self.run(["python3", "-m", "venv", PYTHON])
        for name in HOST:
            if Path(name).exists():
                shutil.copy(name, self.root / name.strip("/"))
        for name in ("dev", "proc"):
            if not os.path.ismount(self.root / name):
                subprocess.run(["mount", "--rbind", f"/{name}", self.root / name], check=True)

    def copy(self, rest: str) -> None:
        words = rest.split()
        owner = next((word.partition("=")[2] for word in words if word.startswith("--chown=")), "root")
        source, _ = [word for word in words if not word.startswith("--")]
        target = self.root / self.directory.strip("/")
        if source == ".":  # what git knows, with the history: .dockerignore leaves the rest out
            subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", PROJECT, target / "clone"], check=True)
            shutil.copytree(target / "clone", target, dirs_exist_ok=True)
            shutil.rmtree(target / "clone")
        else:
            shutil.copy(PROJECT / source, target)
        self.run(["chown", "--recursive", owner, self.directory])


def instructions(text: str) -> list[tuple[str, str]]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in joined.splitlines())]


def main() -> None:
    build = Build(Path(sys.argv[1]).resolve())
    try:
        for instruction, rest in instructions((PROJECT / "Dockerfile").read_text()):
            print(f"{instruction} {rest}", flush=True)
            build.carry_out(instruction, rest)
        build.run([*build.entry_point, *sys.argv[2:]])
    finally:
        for name in ("dev", "proc"):
            subprocess.run(
                ["umount", "--recursive", "--lazy", build.root / name], check=False, stderr=subprocess.DEVNULL
            )


if __name__ == "__main__":
    main()
