"""Fails when a new version of Hydra or OmegaConf takes away, or changes, a private name that the engine relies on."""

from omegaconf import DictConfig, OmegaConf
from tiny_runs import CONFIGS

from reprise.cli.config_files import initialized, loader
from reprise.private_names.hydra import completions, get_args_parser, without_program
from reprise.private_names.omegaconf import MISSING, node_of, raw_value


def test_flags_and_overrides_of_a_command_line_are_told_apart() -> None:
    arguments = get_args_parser().parse_args(["-m", "--cfg", "job", "seed=1,2"])
    assert (arguments.multirun, arguments.cfg, arguments.overrides) == (True, "job", ["seed=1,2"])


def test_a_line_of_overrides_is_completed() -> None:
    assert without_program("python scripts/train.py experiment=ba") == "experiment=ba"
    with initialized(CONFIGS):
        assert completions(loader(), "train", "experiment=ba") == ["experiment=base"]


def test_a_node_is_read_without_resolving_it() -> None:
    config = OmegaConf.create({"a": "${b}", "none": None, "missing": "???", "section": {"x": 1}})
    assert isinstance(config, DictConfig)
    assert raw_value(node_of(config, "a")) == "${b}"
    assert raw_value(node_of(config, "none")) is None
    assert raw_value(node_of(config, "missing")) == MISSING
    assert list(raw_value(node_of(config, "section"))) == ["x"]
