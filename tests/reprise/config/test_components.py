from typing import Any

import pytest
from tiny_runs import compose

from reprise.config.components import callback_targets, check_components, data_target, model_target


@pytest.fixture(scope="module")
def base() -> dict[str, Any]:
    return compose("experiment=base").config.to_dict()


def check(values: dict[str, Any], **sections: Any) -> dict[str, str]:
    """Return the problems of `values` with some sections merged in."""
    merged = values | {
        name: values[name] | section if isinstance(section, dict) else section for name, section in sections.items()
    }
    return {problem.key: problem.message for problem in check_components(merged)}


def test_the_base_experiment_has_no_problem(base: dict[str, Any]) -> None:
    assert check(base) == {}


@pytest.mark.parametrize("monitor", ["train/loss", "val/loss", "val/accuracy", "val/macro_f1"])
def test_a_metric_that_is_produced_can_be_monitored(base: dict[str, Any], monitor: str) -> None:
    assert check(base, training={"monitor": monitor}) == {}


def test_a_monitor_that_no_metric_produces_is_refused(base: dict[str, Any]) -> None:
    assert check(base, training={"monitor": "val/acuracy"}) == {
        "training.monitor": "no metric produces 'val/acuracy'; did you mean `val/accuracy`?"
    }
    assert list(check(base | {"metrics": {}}, training={"monitor": "val/accuracy"})) == ["training.monitor"]
    assert list(check(base, training={"monitor": "test/loss"})) == ["training.monitor"]


def test_problems_of_all_parts_are_found_together(base: dict[str, Any]) -> None:
    load, build = "tiny.images.load_images", "tiny.perceptron.Perceptron"
    problems = check(
        base,
        data={"shiftprobability": 1, "numworkers": 2, "seed": 3},
        model={"hidden_siz": 3, "num_groups": "many"},
        training={
            "optimizer": {"_target_": "torch.optim.AdamW", "lr": 1, "momentum": 0.9},
            "scheduler": {"_target_": "os.system"},
        },
        metrics={"other": {"_target_": "reprise.metrics.ClassificationMetric"}},
        callbacks={"progress": {"_target_": "reprise.callbacks.progress.Progress", "secs": 1}},
        tracker={"tensorboard": {"_target_": "reprise.trackers.tensorboard.TensorBoard", "dir": "x"}},
    )
    assert problems["data.shiftprobability"] == (
        f"{load} takes no such argument; did you mean `data.shift_probability`?"
    )
    assert problems["data.numworkers"] == f"{load} takes no such argument; did you mean `data.num_workers`?"
    assert problems["data.seed"] == "the run gives this argument to load_images itself"
    assert problems["model.hidden_siz"] == f"{build} takes no such argument; did you mean `model.hidden_size`?"
    assert problems["model.num_groups"] == "expected an integer ≥ 1, got 'many'"
    assert problems["training.optimizer.lr"] == "the run gives this argument to AdamW itself"
    assert problems["training.optimizer.momentum"].startswith("torch.optim.AdamW takes no such argument; known here: ")
    assert problems["training.scheduler._target_"].startswith("'os.system' is in no trusted package")
    assert problems["metrics.other._target_"].endswith("did you mean `ClassificationMetrics`?")
    assert list(problems)[-2:] == ["callbacks.progress.secs", "tracker.tensorboard.dir"]
    assert len(problems) == 11


def test_a_scheduler_without_warm_up_is_refused_where_warm_up_is_asked_for(base: dict[str, Any]) -> None:
    constant = {"_target_": "torch.optim.lr_scheduler.ConstantLR"}
    assert check(base, training={"scheduler": constant, "warmup_steps": 5}) == {
        "training.warmup_steps": "ConstantLR takes no warm-up; set it to 0 or choose another scheduler"
    }
    assert check(base, training={"scheduler": constant, "warmup_steps": 0}) == {}


def test_a_scheduler_that_steps_on_a_metric_is_refused(base: dict[str, Any]) -> None:
    plateau = {"_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau"}
    assert check(base, training={"scheduler": plateau, "warmup_steps": 0}) == {
        "training.scheduler": "ReduceLROnPlateau steps on a metric, but the rate here is a function of the step"
    }


def test_a_tracker_and_a_callback_of_one_name_are_refused(base: dict[str, Any]) -> None:
    assert check(base, tracker={"progress": base["tracker"]["tensorboard"]}) == {
        "tracker.progress": "a callback has this name already"
    }


def test_a_callback_without_target_is_taken_for_a_misspelt_one(base: dict[str, Any]) -> None:
    assert check(base, callbacks={"modelcard": {"x": 1}}) == {
        "callbacks.modelcard": "there is none of this name, and a new one needs a _target_; "
        "did you mean `callbacks.model_card`?"
    }


def test_sections_that_are_no_mappings_are_left_to_the_schema(base: dict[str, Any]) -> None:
    assert check(base, data=3, model=None, training="fast", metrics=[], callbacks="none", tracker=None) == {}


def test_targets_get_neither_what_is_null_nor_what_others_need() -> None:
    data = {"_target_": "a.b", "path": None, "train_split": 0.5, "num_workers": 2, "other": None}
    assert data_target(data) == {"_target_": "a.b", "train_split": 0.5, "other": None}
    model = {"_target_": "a.b", "name": "n", "tokenizer": "word", "hidden_size": None, "num_layers": 2, "x": 1}
    assert model_target(model) == {"_target_": "a.b", "num_layers": 2, "x": 1}


def test_a_callback_that_is_null_is_left_out() -> None:
    values = {"callbacks": {"a": {"_target_": "x"}, "b": None}, "tracker": {"c": {"_target_": "y"}}}
    assert callback_targets(values) == {"a": {"_target_": "x"}, "c": {"_target_": "y"}}
    assert callback_targets({"callbacks": None, "tracker": {}}) == {}


@pytest.mark.parametrize("name", ["run_layout", "checkpoints", "seeding"])
def test_a_callback_that_no_run_can_do_without_cannot_be_left_out(base: dict[str, Any], name: str) -> None:
    for callbacks in (
        base["callbacks"] | {name: None},
        {key: base["callbacks"][key] for key in {*base["callbacks"]} - {name}},
    ):
        (problem,) = check_components(base | {"callbacks": callbacks})
        assert problem.key == f"callbacks.{name}"
        assert problem.message.startswith("cannot be left out: ")
