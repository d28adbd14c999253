"""Turns the errors of a command into one message and an exit code.

Exit codes: 0 done; 1 failed; 2 the user's input is wrong; 3 a difference was found; 75 stopped by a signal after
saving. It knows nothing of Hydra.
"""

import contextlib
import logging
import os
import sys
import textwrap
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import NoReturn, TextIO

from reprise.cli.output import keep_output_working
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


def run_command(command: Callable[[], object], *, is_shared: bool = False) -> None:
    """Call `command` and exit, as `exits_with_messages` says."""
    with exits_with_messages(is_shared=is_shared):
        command()


@contextlib.contextmanager
def exits_with_messages(*, is_shared: bool = False) -> Iterator[None]:
    """Exit at the end of the block: with its errors as messages, without a traceback where the user's input is wrong.

    `is_shared`: all processes that `torchrun` started take part; otherwise only the first one does.
    """
    keep_output_working()
    if not is_shared:
        if not find_processes().is_first:
            sys.exit(0)
        be_alone()
    elif not find_processes().is_first:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - the first process talks
    _log_to_console()
    try:
        yield
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
    except Exception:
        _exit(FAILED, traceback.format_exc().rstrip())
    _exit(0, "")


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
