"""Runs a verb from the command line and turns its errors into one message and an exit code.

Exit codes: 0 done; 1 failed; 2 the user's input is wrong; 3 a difference was found; 75 stopped by a signal after
saving.
"""

import logging
import os
import sys
import textwrap
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import NoReturn, TextIO

from reprise.config import ExperimentConfig
from reprise.config.secrets import hidden_in_text
from reprise.errors import (
    DIFFERENT,
    FAILED,
    TRY_AGAIN,
    WRONG_INPUT,
    ConfigError,
    Different,
    Failure,
    InputError,
    Interrupted,
    ProcessLost,
)
from reprise.training.processes import be_alone, find_processes

_SECONDS_FOR_THE_FIRST = 10.0


class _Console(logging.StreamHandler[TextIO]):
    """Prints messages to whatever stdout is at the time, so that a live view can take them; tracebacks go to files."""

    def __init__(self) -> None:
        super().__init__(sys.stdout)
        self.addFilter(lambda record: record.name.startswith(("reprise", "hydra")) or record.levelno >= logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stdout
        super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        return f"{datetime.fromtimestamp(record.created):%H:%M:%S}  {hidden_in_text(record.getMessage())}"


def _log_to_console() -> None:
    logging.captureWarnings(True)
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.addHandler(_Console())


def run_command(command: Callable[[], object], *, is_shared: bool = False) -> NoReturn:
    """Call `command` and exit: with its errors as messages, without a traceback where the user's input is wrong.

    `is_shared`: of the processes that `torchrun` started, all work on it; otherwise only the first does.
    """
    if not is_shared:
        if not find_processes().is_first:
            sys.exit(0)
        be_alone()
    elif not find_processes().is_first:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - the first process talks
    _log_to_console()
    try:
        command()
    except ConfigError as error:
        lines = [f"Error: {error.headline}"]
        for problem in error.problems:
            origin = f"  ({problem.origin})" if problem.origin else ""
            lines += ["", f"  {problem.key}{origin}", textwrap.indent(problem.message, "      ")]
        _exit(WRONG_INPUT, "\n".join(lines))
    except InputError as error:
        _exit(WRONG_INPUT, f"Error: {error}")
    except Failure as error:
        _exit(FAILED, f"Error: {error}")
    except ProcessLost as error:
        if find_processes().is_first:
            print(f"Error: {error}", file=sys.stderr)
        sys.exit(FAILED)
    except Different as error:
        _exit(DIFFERENT, str(error))
    except Interrupted as error:
        message = f"Stopped {error}. {error.advice}"
        if error.at_once:
            _exit_now(TRY_AGAIN, message)
        _exit(TRY_AGAIN, message)
    except KeyboardInterrupt:
        _exit(TRY_AGAIN, "Stopped.")
    except BrokenPipeError:  # whoever read the output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _exit(FAILED, "")
    except Exception:
        _exit(FAILED, traceback.format_exc().rstrip())
    _exit(0, "")


def run_hydra(task: Callable[..., object], config_dir: Path) -> NoReturn:
    """Call `task` with the valid config that the command line asks for; once for each job of a sweep."""
    run_command(lambda: _run_hydra(task, config_dir), is_shared=True)


def _run_hydra(task: Callable[..., object], config_dir: Path) -> None:
    # Hydra is told to let errors through, instead of printing them and exiting with 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    import hydra
    from hydra._internal.utils import get_args_parser
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import DictConfig
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from reprise.cli.composing import CONFIG_NAME, validated
    from reprise.cli.engine_configs import make_findable
    from reprise.cli.job_configs import check_sweep
    from reprise.cli.mending import mended
    from reprise.cli.mistakes import explain
    from reprise.cli.overrides import with_texts_quoted
    from reprise.config.composed import Composed

    make_findable()
    typed, failures = list(sys.argv), []
    arguments = get_args_parser().parse_args()
    if arguments.multirun and (size := find_processes().size) > 1:
        raise InputError(f"-m: a sweep starts its jobs itself; torchrun started {size} processes for a single run")
    wrong: tuple[type[Exception], ...] = (HydraException, OmegaConfBaseException, YAMLError, ValueError)
    if not arguments.multirun:  # what Hydra itself trips over, at odd overrides
        wrong += (TypeError, AttributeError, LookupError, AssertionError, RecursionError)
    main = hydra.main(version_base="1.3", config_path=str(config_dir), config_name=CONFIG_NAME)

    def single_run(job: DictConfig) -> None:
        sys.argv = typed  # provenance records it
        try:
            composed = validated(job)
            if composed.config.sweep_id is not None:
                raise InputError("sweep_id: names a sweep, and this is a single run; add -m")
            task(composed)
        except Exception as error:
            failures.append(error)  # Hydra would print a line more

    def run(overrides: list[str], jobs: Sequence[ExperimentConfig]) -> None:
        given = dict(zip(arguments.overrides, overrides, strict=True))
        sys.argv = [typed[0], *(given.get(argument, argument) for argument in typed[1:])]
        try:
            if any(job.preflight for job in jobs) and not arguments.cfg:
                # All jobs were checked by now, but not built: that would take a run's start for each.
                print("Every value of the sweep is valid. Its first job is tried:\n")
                task(Composed(jobs[0], (), {}))
            elif arguments.multirun and not arguments.cfg:  # Hydra refuses the two together
                from hydra_plugins import _reprise  # not among what Hydra imports at each start
                from reprise.cli.sweep import carry_out_sweep

                _reprise.register()
                carry_out_sweep(task, typed, jobs, lambda job: main(job)())
            else:
                main(single_run)()
        finally:
            sys.argv = typed
        if failures:
            raise failures[0]

    overrides = with_texts_quoted(arguments.overrides)
    try:
        run(overrides, check_sweep(config_dir, overrides) if arguments.multirun else ())
    except wrong as error:
        if error in failures:
            raise
        # Hydra stops at the first thing it cannot do.
        GlobalHydra.instance().clear()
        try:
            better = mended(config_dir, overrides, arguments.multirun)
        except wrong as still:
            raise explain(still, config_dir) from None
        if better == overrides:
            raise explain(error, config_dir) from None
        try:
            run(better, check_sweep(config_dir, better) if arguments.multirun else ())
        except wrong as other:
            raise (other if other in failures else explain(other, config_dir)) from None


def _exit_now(code: int, message: str) -> NoReturn:
    """Exit without waiting for any thread."""
    sys.stdout.flush()
    print(message, file=sys.stderr, flush=True)
    os._exit(code)


def _exit(code: int, message: str) -> NoReturn:
    sys.stdout.flush()
    if code and not find_processes().is_first:
        # The first process says it, and exits; then torchrun ends this one. If it does not, it is this one's to say.
        time.sleep(1.0 if code == TRY_AGAIN else _SECONDS_FOR_THE_FIRST)
    if message:
        print(hidden_in_text(message), file=sys.stderr)
    sys.exit(code)
