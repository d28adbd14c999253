"""Says in words of the config what torch's errors about a batch mean that nothing has found beforehand."""

import re
from traceback import extract_tb, walk_tb

from reprise.errors import InputError
from reprise.runs.lone_samples import TOO_FEW
from reprise.runs.stages import RunBeforeTraining, RunInTraining
from reprise.training.evaluation import evaluate

_LABEL = re.compile(r"Target (-?\d+) is out of bounds\.?")


def explained(error: BaseException, run: RunBeforeTraining) -> BaseException:
    """Return an InputError in place of an error that the values or the size of a batch lead to, and others as they are.

    `run`: what was under way.
    """
    message = _message(error, run) if isinstance(error, ValueError | IndexError | RuntimeError) else None
    if message is None:
        return error
    refused = InputError(f"{message}{place_of(error)}")
    refused.__cause__ = error
    return refused


def place_of(error: BaseException) -> str:
    """Return a line that says where in code that is not installed an error came from; empty if nowhere."""
    frames = [frame for frame in extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    return f"\n  in {frames[-1].name}, {frames[-1].filename}:{frames[-1].lineno}" if frames else ""


def _message(error: BaseException, run: RunBeforeTraining) -> str | None:
    said, when = str(error), _when(error, run)
    if said.startswith(TOO_FEW):
        if isinstance(run, RunInTraining) and _is_of_evaluation(error):
            return (
                f"model: a batch norm without running statistics cannot score a batch of one sample{when}; give "
                "another training.batch_size"
            )
        return (
            f"training.drop_last: the model has a batch norm that needs two samples or more, and got one{when}; "
            "leave the last batch of each epoch out (training.drop_last=true), or give another training.batch_size"
        )
    if label := _LABEL.fullmatch(said):
        return f"data: label {label[1]} is outside of the classes that the loss knows{when}; {_num_labels(run)}"
    if said.startswith("index out of range in self"):
        return (
            f"data, model: an index into an embedding is out of range{when}: a token id that is not below "
            "vocab_size, or a text that is longer than the model's positions"
        )
    if "device-side assert triggered" in said:
        return (
            f"data: an index was out of range on the GPU{when}, most likely a label that is no number of a class "
            f"or a token id that is not below vocab_size; {_num_labels(run)}. With training.device=cpu the message "
            "says which"
        )
    return None


def _num_labels(run: RunBeforeTraining) -> str:
    given = run.config["model"].get("num_labels")
    if given is not None:
        return f"num_labels is {given}, which the config gives as model.num_labels"
    number = run.data.facts.get("num_labels") if isinstance(run, RunInTraining) else None
    if number is None:
        return "compare them with num_labels, a fact of the data set (`Data.facts`), unless model.num_labels gives it"
    return f"num_labels is {number}, a fact of the data set (`Data.facts`)"


def _is_of_evaluation(error: BaseException) -> bool:
    # Not by the mode of the model: after an evaluation that fails it is that of training again.
    return any(frame.f_code is evaluate.__code__ for frame, _ in walk_tb(error.__traceback__))


def _when(error: BaseException, run: RunBeforeTraining) -> str:
    if not isinstance(run, RunInTraining):
        return ""
    if _is_of_evaluation(error):
        return f" in the evaluation after step {run.loop.step}"
    return f" in step {run.loop.step + 1}"
