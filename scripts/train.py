"""Trains. `python scripts/train.py --help` says how."""

from pathlib import Path

from reprise.cli.hydra_command import run_hydra


def task(composed):  # type: ignore[no-untyped-def]
    if composed.config.preflight:
        from reprise.tools.preflight import preflight

        print(preflight(composed.config).text())
        return
    from reprise.runs.products import refuse_missing
    from reprise.runs.train import train

    print(run_dir := train(composed))
    refuse_missing(run_dir)


if __name__ == "__main__":
    run_hydra(task, Path(__file__).resolve().parents[1] / "configs")
