import shutil
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from tiny_runs import CONFIGS, ENGINE_CONFIGS, compose

from reprise.cli.composing import compose_and_validate
from reprise.cli.job_configs import check_sweep
from reprise.cli.overrides import with_texts_quoted
from reprise.errors import ConfigError, InputError

EXPERIMENTS = sorted(path.stem for path in (CONFIGS / "experiment").glob("*.yaml"))


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    """Return a copy of configs/ to which a test adds files."""
    return Path(shutil.copytree(CONFIGS, tmp_path / "configs"))


def write_experiment(configs: Path, text: str) -> None:
    (configs / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{text}")


def problems(*overrides: str, configs: Path = CONFIGS) -> dict[str, tuple[str | None, str]]:
    """Return origin and message of all that is wrong, by key."""
    with pytest.raises(ConfigError) as caught:
        compose_and_validate(configs, overrides)
    found = {problem.key: (problem.origin, problem.message) for problem in caught.value.problems}
    assert len(found) == len(caught.value.problems)
    return found


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_file_composes_and_is_valid(experiment: str) -> None:
    assert compose(f"experiment={experiment}").config.experiment_name == experiment


@pytest.mark.parametrize(
    "group", ["callbacks", "metrics", "tracker", "training/optimizer", "training/scheduler", "debug"]
)
def test_every_option_of_a_group_can_be_chosen(group: str) -> None:
    for path in sorted((ENGINE_CONFIGS / group).glob("*.yaml")):
        warmup = ["training.warmup_steps=0"] if path.stem == "constant" else []
        monitor = ["training.monitor=val/loss"] if group == "metrics" else []
        option = f"[default,{path.stem}]" if group == "callbacks" else path.stem
        compose("experiment=base", f"{group}={option}", *warmup, *monitor)


def test_problems_in_a_file_come_together_with_key_and_file(configs: Path) -> None:
    write_experiment(
        configs,
        """
        seed: -1
        modle: {name: x}
        training: {batch_size: many, learningrate: 3, monitor: val/acuracy, optimizer: {beta: 1}}
        callbacks: {checkpoints: {every_epoch: 2}, modelcard: null}
        data: {num_worker: 1}
        card: {authors: 7}
        """,
    )
    found = problems("experiment=mine", configs=configs)
    assert {origin for origin, _ in found.values()} == {"configs/experiment/mine.yaml"}
    assert {key: message for key, (_, message) in found.items()} == {
        "seed": "expected an integer ≥ 0 and ≤ 4294967295, got -1",
        "modle": "unknown; did you mean `model`?",
        "training.batch_size": "expected an integer ≥ 1, got 'many'",
        "training.learningrate": "unknown; did you mean `training.learning_rate`?",
        "training.monitor": "no metric produces 'val/acuracy'; did you mean `val/accuracy`?",
        "training.optimizer.beta": "reprise.optimization.optimizers.AdamW takes no such argument; "
        "did you mean `training.optimizer.betas`?",
        "callbacks.checkpoints.every_epoch": "reprise.runs.persisters.checkpoints.Checkpoints takes no such argument; "
        "did you mean `callbacks.checkpoints.every_epochs`?",
        "callbacks.modelcard": "there is none to remove; did you mean `callbacks.model_card`?",
        "data.num_worker": "tiny.images.load_images takes no such argument; did you mean `data.num_workers`?",
        "card.authors": "expected a text or null, got 7; a text needs quotes here: "
        "'7' in a file, \"card.authors='7'\" on the command line",
    }


def test_a_problem_names_the_last_that_set_the_value(configs: Path) -> None:
    write_experiment(configs, "training: {batch_size: 0, max_epochs: 0}\nseed: -1")
    found = problems("experiment=mine", "training.max_epochs=-5", "model=perceptron", configs=configs)
    assert {key: origin for key, (origin, _) in found.items()} == {
        "training.batch_size": "configs/experiment/mine.yaml",
        "training.max_epochs": "command line: training.max_epochs=-5",
        "seed": "configs/experiment/mine.yaml",
    }
    (configs / "data" / "images.yaml").write_text("_target_: tiny.images.load_image\nshift: 1\n")
    assert problems("experiment=base", "data=images", configs=configs)["data._target_"][0] == "configs/data/images.yaml"


def test_missing_values_are_named_with_their_file(configs: Path) -> None:
    (configs / "model" / "mine.yaml").write_text(
        "_target_: tiny.perceptron.Perceptron\nname: mine\nhidden_size: ???\nnum_groups: ???\n"
    )
    expected = "expected an integer ≥ 1"
    found = problems("experiment=base", "model=mine", configs=configs)
    assert {key: origin for key, (origin, _) in found.items()} == {
        "model.hidden_size": "configs/model/mine.yaml",
        "model.num_groups": "configs/model/mine.yaml",
    }
    assert found["model.num_groups"][1] == (f"missing: {expected}; set it in a config file or as model.num_groups=…")


def test_every_interpolation_that_leads_nowhere_is_named_among_the_other_problems(configs: Path) -> None:
    write_experiment(
        configs,
        """
        training: {batch_size: "${model.hiden_size}", warmup_steps: "${oc.env:REPRISE_IS_NOT_SET}", max_epochs: 0}
        card: {authors: "${nobody}", license: "${card.license}"}
        """,
    )
    found = {key: message for key, (_, message) in problems("experiment=mine", configs=configs).items()}
    assert (
        found["training.batch_size"] == "${model.hiden_size} leads nowhere: unknown; did you mean `model.hidden_size`?"
    )
    assert "REPRISE_IS_NOT_SET" in found["training.warmup_steps"]
    assert found["training.max_epochs"] == "expected an integer ≥ 1, got 0"
    assert found["card.authors"].startswith("${nobody} leads nowhere: unknown; known here: callbacks, ")
    assert found["card.license"] == "Recursive interpolation detected"
    assert len(found) == 5


def test_an_interpolation_in_an_override_is_about_the_config() -> None:
    assert compose("experiment=base", "card.authors=${model.name}").config.card.authors == "perceptron"
    assert problems("experiment=base", "card.authors=${card.author}") == {
        "card.authors": (
            "command line: card.authors=${card.author}",
            "${card.author} leads nowhere: unknown; did you mean `card.authors`?",
        )
    }


def test_a_value_taken_over_from_a_wrong_one_is_not_a_second_problem() -> None:
    assert list(problems("experiment=base", "deterministic=strickt")) == ["deterministic"]


@pytest.mark.parametrize("text", ["training: {batch_size: 16}", "[a, b]", ""])
def test_an_experiment_file_without_its_first_line_is_explained(configs: Path, text: str) -> None:
    (configs / "experiment" / "mine.yaml").write_text(text)
    message = "the file chosen must begin with the line `# @package _global_`, and hold keys"
    assert problems("experiment=mine", configs=configs)["experiment"][1] == message


def test_without_an_experiment_the_choice_is_shown() -> None:
    assert problems() == {"experiment": (None, f"nothing was chosen; choose one of: {', '.join(EXPERIMENTS)}")}


def test_an_option_given_as_a_key_comes_with_the_way_to_choose_it() -> None:
    assert problems("experiment=base", "training.optimizer=sgd")["training.optimizer"][1] == (
        "expected a mapping, got 'sgd'; an option is chosen as training/optimizer=…: adamw, sgd"
    )


def test_callbacks_can_be_added_changed_and_removed() -> None:
    default = list(compose("experiment=base").config.callbacks)
    config = compose(
        "experiment=base", "callbacks=[default,early_stopping]", "callbacks.early_stopping.patience=3"
    ).config
    assert list(config.callbacks) == [*default, "early_stopping"]
    assert config.callbacks["early_stopping"] is not None
    assert config.callbacks["early_stopping"]["patience"] == 3
    assert list(compose("experiment=base", "~callbacks.model_card").config.callbacks) == [
        name for name in default if name != "model_card"
    ]
    assert compose("experiment=base", "callbacks.model_card=null").config.callbacks["model_card"] is None


def test_an_argument_that_no_file_lists_can_be_added() -> None:
    config = compose("experiment=base", "+training.optimizer.amsgrad=true", "++data.num_workers=1").config
    assert config.training.optimizer["amsgrad"] is True
    assert config.data.num_workers == 1


def test_overrides_and_hydras_record_are_kept() -> None:
    composed = compose("experiment=base", "seed=7", "run_id=007")
    assert composed.overrides == ("experiment=base", "seed=7", "run_id=007")
    assert yaml.safe_load(composed.record["overrides.yaml"]) == list(composed.overrides)
    assert yaml.safe_load(composed.record["config.yaml"])["seed"] == 7
    assert yaml.safe_load(composed.record["hydra.yaml"])["hydra"]["runtime"]["choices"]["model"] == "perceptron"


TYPED = [
    *("20261123_060412", "1", "001", "1e5", "1_0", "-3", "0x1f", "true", "False", "nan", "inf", "a", "7 people"),
    *("a=b, (c): d", "O'Neil", 'the "best"', "back\\slash\\", "quote\\'", "a:b", "50%", "Ä", "#1"),
]


@pytest.mark.parametrize("text", TYPED)
def test_a_text_arrives_as_it_was_typed(text: str) -> None:
    (line,) = with_texts_quoted([f"card.authors={text}"])
    override = OverridesParser.create().parse_override(line)
    assert (override.key_or_group, override.value()) == ("card.authors", text)


def test_texts_that_look_like_numbers_become_names_of_runs_and_experiments() -> None:
    config = compose("experiment=base", "run_id=20261123_060412", "experiment_name=1", "+card.license=2").config
    assert (config.run_id, config.experiment_name, config.card.license) == ("20261123_060412", "1", "2")


def test_null_quotes_interpolations_and_other_keys_are_left_alone() -> None:
    overrides = [
        "run_id=null",
        "run_id='1'",
        'run_id="1"',
        "run_id=${seed}",
        "run_id=",
        "~run_id",
        "seed=1",
        "a.run_id=1",
    ]
    assert with_texts_quoted(overrides) == overrides


def test_each_text_of_a_sweep_arrives_as_it_was_typed() -> None:
    assert with_texts_quoted(["run_id=1,b,2_0", "++experiment_name=choice(001, 1e5)", "seed=1,2"]) == [
        "run_id='1',b,'2_0'",
        "++experiment_name=001,'1e5'",
        "seed=1,2",
    ]
    unclear = ["run_id=range(1,3)", "run_id='1','2'", "run_id=[1,2]"]
    assert with_texts_quoted(unclear) == unclear


@pytest.mark.parametrize("override", ["seed=range(3,1)", "model=glob(nothing*)"])
def test_a_sweep_over_nothing_is_refused(override: str) -> None:
    with pytest.raises(InputError, match="expected a sweep over at least one value, got none"):
        check_sweep(CONFIGS, ["experiment=base", override])


def test_every_value_of_a_sweep_is_checked() -> None:
    check_sweep(CONFIGS, ["experiment=base", "seed=1,2", "run_id=1,2", "model=glob(perc*)"])
    for overrides, wrong in (
        (["seed=1,2,x"], "seed=x"),
        (["training.learning_rate=choice(0.1,-1)"], "training.learning_rate=-1"),
        (["training.learning_rate=interval(0,1)"], "training.learning_rate=0.0"),
        (["seed=1,2", "training.batch_size=range(2,-1,-1)"], "training.batch_size=0"),
    ):
        with pytest.raises(ConfigError) as caught:
            check_sweep(CONFIGS, ["experiment=base", *overrides])
        assert [problem.origin for problem in caught.value.problems] == [f"command line: {wrong}"]
