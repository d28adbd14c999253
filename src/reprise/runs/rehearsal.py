"""Does on one batch, before training, what follows training, so that what would fail then is said in the first seconds.

It leaves no trace: random states, metrics and the state of the model are what they were.
"""

import copy
import importlib
import json
import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from reprise.config.components import model_target
from reprise.config.secrets import hidden
from reprise.config.targets import build
from reprise.data import on_device
from reprise.errors import InputError
from reprise.files.content_hash import content_hash
from reprise.files.plain_json import plain_json
from reprise.metrics import Metric
from reprise.models import evaluating, is_transformers_model
from reprise.randomness import capture_rng_state, restore_rng_state
from reprise.randomness.addresses import model_seed, seed_globals
from reprise.runs.building import Task
from reprise.runs.checkpoint import plain
from reprise.runs.lone_samples import check_lone_samples
from reprise.text.listing import first_few
from reprise.text.suggestions import instead
from reprise.training.monitoring import no_items
from reprise.training.scalars import plain_number, scalar_loss

logger = logging.getLogger(__name__)

_MISTAKES = (AttributeError, NameError, NotImplementedError, TypeError)
"""Errors of a metric that are no matter of too little data."""


def rehearse(task: Task) -> dict[str, Any]:
    """Return the shapes of one batch of the validation split and of the logits for it, without the batch dimension.

    Raises:
        InputError: if a checkpoint would not restore the model, or results or export could not be written, or the
            metrics of that batch lack what `training.monitor` names, or no batch has an item to score. The message
            names the key.
    """
    before = capture_rng_state()
    try:
        state = _copy_of_state(task.model)
        shapes = _score_one_batch(task, state)
        check_lone_samples(task)
        _check_restoring(task, state)
        _check_export(task, state)
    finally:
        restore_rng_state(before)
    return shapes


def _score_one_batch(task: Task, state: Mapping[str, Any]) -> dict[str, Any]:
    monitor, num_items, count_items = task.config.training.monitor, 0, task.counter("val")
    for host_batch in task.batches("val"):  # the first one that has an item to score
        if num_items := count_items(host_batch):
            break
    else:
        if monitor.startswith("val/"):
            raise no_items("val", monitor)
    batch = on_device(host_batch, task.device)
    computed = dict.fromkeys(("train/loss", "val/loss"), "the run itself")
    with evaluating(task.model) as model, task.autocast():
        outputs = model(**batch)
        _check_entries(model, state)
        if not isinstance(getattr(outputs, "logits", None), Tensor) or not hasattr(outputs, "loss"):
            raise InputError(
                f"model._target_: expected {type(model).__name__}.forward to return an object with `logits`, a tensor, "
                f"and `loss`, such as reprise.models.ModelOutput; got {type(outputs).__name__}"
            )
        if num_items:
            scalar_loss(outputs.loss, model)
        for name, metric in task.metrics.items() if num_items else ():
            for found in _rehearse_metric(name, metric, (outputs, batch, num_items)):
                if (other := computed.setdefault(f"val/{found}", f"metrics.{name}")) != f"metrics.{name}":
                    raise InputError(
                        f"metrics.{name}: {found!r} is computed by {other} already, and one of the two numbers would "
                        "be lost; give it another name"
                    )
    if num_items and monitor not in computed:
        raise InputError(f"training.monitor: no metric computes {monitor!r}; {instead(monitor, computed)}")
    return {
        "input_shapes": {name: list(tensor.shape[1:]) for name, tensor in batch.items() if name != "labels"},
        "logits_shape": list(outputs.logits.shape[1:]),
    }


def _check_entries(model: nn.Module, state: Mapping[str, Any]) -> None:
    """See whether the state still has the entries and sizes of before a forward pass."""
    if changed := {name for name, _ in _sizes(plain(model.state_dict())).items() ^ _sizes(state).items()}:
        raise InputError(
            f"model._target_: a forward pass changes which entries its state has, or their sizes, "
            f"{first_few(map(repr, sorted(changed)))}, so that a freshly built model cannot load a checkpoint; create "
            "them in the constructor, or as buffers with persistent=False"
        )


def _rehearse_metric(name: str, metric: Metric, scored: tuple[Any, Mapping[str, Tensor], int]) -> list[str]:
    """Return the names that a metric computes; what its `names` promise is checked where one batch can tell."""
    metric.reset()
    try:
        metric.update(*scored)
        scores = metric.compute()
        for found, score in scores.items():
            plain_number(score, f"{found!r}, from {type(metric).__name__}.compute")
    except InputError:
        raise
    except _MISTAKES as error:
        raise InputError(f"metrics.{name}: it fails on a batch: {type(error).__name__}: {error}") from error
    except Exception:  # of one batch alone it need not be defined
        metric.reset()
        return list(metric.names)
    # Those of the engine return plain values, and may take seconds.
    methods = () if type(metric).__module__ == Metric.__module__ else ("details", "predictions", "baselines")
    for method in methods:
        key = f"metrics.{name}"
        try:
            plain_json(getattr(metric, method)(), method)
        except _MISTAKES as error:
            raise InputError(f"{key}: `{method}` would fail after training: {type(error).__name__}: {error}") from error
        except Exception as error:
            logger.info("%s: of one batch, `%s` raises %s: %s", key, method, type(error).__name__, error)
    metric.reset()
    return list(scores)


def _copy_of_state(model: nn.Module) -> dict[str, Any]:
    def copy_of(tensor: Tensor, where: str) -> Tensor:
        if tensor.layout is not torch.strided:
            raise TypeError(f"{where}: sparse tensors have no form in an export; keep dense ones, or persistent=False")
        return tensor.detach().clone()

    try:
        copied: dict[str, Any] = plain(model.state_dict(), tensor=copy_of)
    except TypeError as error:
        raise InputError(f"model._target_: its state cannot be saved: {error}") from error
    return copied


def _check_restoring(task: Task, state: dict[str, Any]) -> None:
    """Put the state back, and see that it restores what the model computes with."""
    model = task.model
    own = {name: value.detach() for name, value in [*model.named_parameters(), *model.named_buffers()]}
    # Most entries of a state are the tensors themselves; what stands in it in another form might lose digits.
    kept = {n: value.clone() for n, value in own.items() if n in state and not _are_equal(value, state[n])}
    try:
        model.load_state_dict(plain(state))
    except Exception as error:
        raise InputError(
            "model._target_: a checkpoint of it could not be loaded, since its own state_dict does not load: "
            f"{' '.join(str(error).split()).rstrip('.')}. Have state_dict return every entry, or override "
            "load_state_dict, too, so that it takes what state_dict returns"
        ) from error
    again = plain(model.state_dict())
    differing = [name for name, value in state.items() if not _are_equal(value, again[name])]
    if differing := differing or [name for name, value in kept.items() if not _are_equal(value, own[name])]:
        raise InputError(
            f"model._target_: a checkpoint of it would not restore {first_few(map(repr, differing))}: after "
            "load_state_dict it has another value than state_dict had returned"
        )
    if left_out := {name: value for name, value in model.named_parameters() if name not in state}:
        _check_building(task, state, left_out)


def _check_building(task: Task, state: dict[str, Any], left_out: Mapping[str, Tensor]) -> None:
    """See whether the model is built with the parameters that its state leaves out, whatever the random state."""
    seed_globals(model_seed(task.config.seed + 1))
    fresh = build(task.model_spec, "model", task.config.trusted_packages)
    fresh.load_state_dict(state)
    built = dict(fresh.named_parameters())
    if differing := [n for n, value in left_out.items() if not _are_equal(value.detach().cpu(), built[n].detach())]:
        raise InputError(
            f"model._target_: its state_dict leaves out {first_few(map(repr, differing))}, which the constructor draws "
            "at random, so that the export would compute something else; leave it in, or have the "
            "constructor load it from a file"
        )


def _check_export(task: Task, state: Mapping[str, Any]) -> None:
    """See whether the export could be written, from one element of each tensor."""
    processor = task.data.processor
    if processor is not None and not callable(getattr(processor, "save_pretrained", None)):
        raise InputError(
            f"data._target_: the processor {type(processor).__name__} has no `save_pretrained`, which puts it into the "
            "export"
        )
    from safetensors.torch import save

    model: Any = task.model
    try:
        save({name: value.flatten()[:1].cpu() for name, value in state.items() if isinstance(value, Tensor)})
        if is_transformers_model(model):
            model.config.to_json_string()
    except Exception as error:
        raise InputError(f"model._target_: it could not be exported: {type(error).__name__}: {error}") from error
    if is_transformers_model(model):
        _check_class_of_transformers(model, state)
        return
    for name, value in task.model_spec.items():
        try:
            json.dumps(hidden(value), allow_nan=False)
        except (TypeError, ValueError):
            is_fact = name not in model_target(task.config.to_dict()["model"])
            key = f"data._target_: the fact `{name}`" if is_fact else f"model.{name}: it"
            raise InputError(
                f"{key} is an argument of the model, and the export, which is built again from its arguments, cannot "
                f"hold a {type(value).__name__}; give plain numbers, texts and lists, and have the model convert them"
            ) from None


def _check_class_of_transformers(model: Any, state: Mapping[str, Any]) -> None:
    """See whether the class by which the export is loaded has all entries of the state."""
    kind = type(model)
    if getattr(importlib.import_module("transformers"), kind.__name__, None) is not kind:
        return
    with torch.device("meta"):
        known = kind(copy.deepcopy(model.config)).state_dict()
    unknown = [name for name, value in state.items() if name not in known or not isinstance(value, Tensor)]
    if unknown:
        raise InputError(
            f"model._target_: the export of a model of transformers is loaded by its class, {kind.__name__}, which has "
            f"no {first_few(map(repr, unknown))}, so that the export would compute something else; put the model "
            "into an nn.Module of your own, beside what is added to it"
        )


def _sizes(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.shape if isinstance(value, Tensor) else None for name, value in state.items()}


def _are_equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b):
        return True
    return content_hash(a) == content_hash(b)  # NaN is NaN
