from pathlib import Path

import pytest
from tiny_runs import CONFIGS

from reprise.cli.mending import mended
from reprise.errors import ConfigError

OWN = """
_target_: tiny.perceptron.Perceptron
name: own
hidden_size: 16
num_groups: 2
num_layers: 1
"""


@pytest.mark.parametrize("is_sweep", [False, True])
def test_argument_that_no_file_lists_is_added_also_to_an_option_of_another_directory(
    tmp_path: Path, is_sweep: bool
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "own.yaml").write_text(OWN)
    command = ["experiment=base", f"hydra.searchpath=['file://{tmp_path}']", "model=own"]
    assert mended(CONFIGS, [*command, "model.intermediate_size=16"], is_sweep) == [
        *command,
        "++model.intermediate_size=16",
    ]
    with pytest.raises(ConfigError, match=r"model\.intermedate_size.*did you mean `model\.intermediate_size`"):
        mended(CONFIGS, [*command, "model.intermedate_size=16"], is_sweep)
