"""Operations without a deterministic implementation are seen, recorded and told; `strict` stops at the first."""

import json
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import TINY, compose

from reprise.cli.command_line import run_command
from reprise.errors import NondeterministicOperationError
from reprise.randomness import set_determinism
from reprise.runs.nondeterminism import nondeterministic_operations_noted
from reprise.runs.provenance_file import ProvenanceFile
from reprise.runs.run_directory import RunDirectory
from reprise.runs.train import train
from reprise.tools.checklist.audit import audit

PUT = ("model._target_=unrepeatable.Unrepeatable", "trusted_packages=[unrepeatable]")
WARNING = "put_ does not have a deterministic implementation"


def put() -> None:
    torch.zeros(4).put_(torch.tensor([1, 1]), torch.ones(2))


def determinism(run: Path) -> Any:
    return json.loads((run / "provenance.json").read_text())["determinism"]


def test_every_run_of_a_process_records_what_warned_and_shows_it_once(train_tiny: Callable[..., Path]) -> None:
    for _ in range(2):
        with pytest.warns(UserWarning, match=WARNING) as shown:
            run = train_tiny(*PUT)
        assert len(shown) == 1
        assert determinism(run)["nondeterministic_operations"] == ["put_"]
        assert determinism(run)["debug_mode"] == "warn"
    assert "but `put_` warned that there is none" in (run / "model_card.md").read_text()
    failed = [check for check in audit(RunDirectory(run), ["unrepeatable"]) if check.verdict == "failed"]
    assert ("Deterministic", "Operations without a deterministic implementation: `put_`.") in [
        (check.title, check.evidence) for check in failed
    ]


def test_a_run_in_which_nothing_warns_says_so(finished_run: Path) -> None:
    assert determinism(finished_run)["nondeterministic_operations"] == []
    assert "no operation warned that it has none" in (finished_run / "model_card.md").read_text()


def test_speed_costs_no_warning(train_tiny: Callable[..., Path]) -> None:
    run = train_tiny(*PUT, "deterministic=false")
    assert determinism(run) | {"debug_mode": "default", "nondeterministic_operations": []} == determinism(run)


def test_strict_stops_with_a_message_that_names_operation_and_setting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = (*TINY, *PUT, "deterministic=strict", f"output_dir={tmp_path}", "run_id=strict")
    handlers, level = list(logging.getLogger().handlers), logging.getLogger().level
    try:
        with pytest.raises(SystemExit) as exited:
            run_command(lambda: train(compose(*overrides)))
    finally:
        logging.captureWarnings(False)
        logging.getLogger().handlers[:] = handlers
        logging.getLogger().setLevel(level)
    message = "put_ has no deterministic implementation here, and deterministic=strict allows none without"
    assert exited.value.code == 1
    assert message in capsys.readouterr().err.splitlines()[-1]
    status = json.loads((tmp_path / "experiments" / "base" / "strict" / "status.json").read_text())
    assert status["status"] == "failed"
    assert message in status["reason"]


@pytest.mark.parametrize("action", ["ignore", "once", "default", "error"])
def test_no_filter_of_python_hides_what_must_be_recorded(action: Any) -> None:
    set_determinism(True)
    for _ in range(2):
        noted: list[str] = []
        with warnings.catch_warnings(record=True) as shown:
            warnings.simplefilter(action)
            with nondeterministic_operations_noted(noted.append):
                put()
                put()
        assert noted == ["put_"]
        assert len(shown) == 1


def test_other_warnings_and_errors_go_their_usual_way() -> None:
    was_always, show, filters = torch.is_warn_always_enabled(), warnings.showwarning, list(warnings.filters)
    noted: list[str] = []
    with pytest.warns(UserWarning, match="mine") as shown, nondeterministic_operations_noted(noted.append):
        warnings.warn("mine", stacklevel=1)
    assert len(shown) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="mine"), nondeterministic_operations_noted(noted.append):
            warnings.warn("mine", stacklevel=1)
    with pytest.raises(RuntimeError, match=r"^mine$"), nondeterministic_operations_noted(noted.append):
        raise RuntimeError("mine")
    assert noted == []
    assert (torch.is_warn_always_enabled(), warnings.showwarning, warnings.filters) == (was_always, show, filters)


def test_attention_that_warns_only_once_in_a_process_is_known_by_its_name() -> None:
    noted: list[str] = []
    text = "Memory Efficient attention defaults to a non-deterministic algorithm. To explicitly enable determinism …"
    with warnings.catch_warnings(record=True) as shown, nondeterministic_operations_noted(noted.append):
        assert torch.is_warn_always_enabled()
        warnings.warn(text, stacklevel=1)
    assert [str(warning.message) for warning in shown] == [text]
    assert noted == ["Memory Efficient attention"]


def test_strict_names_the_operation_of_any_module() -> None:
    set_determinism("strict")
    unpool = torch.nn.MaxUnpool2d(2)
    with (
        pytest.raises(NondeterministicOperationError, match=r"^max_unpooling2d_forward_out has no deterministic"),
        nondeterministic_operations_noted(print),
    ):
        unpool(torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1, dtype=torch.int64))


def test_operations_of_all_attempts_are_kept_and_settings_are_those_of_the_first(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    for debug_mode, operation in ((True, "put_"), (False, "a_")):
        set_determinism(debug_mode)
        provenance = ProvenanceFile(directory, {"created": "second" if operation == "a_" else "first"})
        provenance.begin()
        provenance.add_parts(dict)
        provenance.add_operation(operation)
    facts = json.loads(directory.provenance.read_text())
    assert facts["created"] == "first"
    assert facts["determinism"]["nondeterministic_operations"] == ["a_", "put_"]
    assert facts["determinism"]["debug_mode"] == "warn"
