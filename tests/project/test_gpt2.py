import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from project.models.gpt2 import build_gpt2
from reprise.errors import InputError


def build(**changes: Any) -> Any:
    torch.manual_seed(0)
    arguments: dict[str, Any] = {"hidden_size": 16, "num_layers": 1, "dropout": 0.0, "num_heads": 2}
    return build_gpt2(**(arguments | {"vocab_size": 11, "context_length": 8} | changes))


def test_model_scores_every_token_of_the_vocabulary_at_every_position() -> None:
    ids = torch.arange(16).reshape(2, 8) % 11
    output = build()(input_ids=ids, labels=ids)
    assert output.logits.shape == (2, 8, 11)
    assert output.loss.shape == ()


def test_no_position_looks_ahead() -> None:
    model, ids = build().eval(), torch.arange(8)[None]
    changed = ids.clone()
    changed[0, 5:] = 0
    before, after = model(input_ids=ids).logits, model(input_ids=changed).logits
    torch.testing.assert_close(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5:], after[:, 5:])


def test_loss_gives_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    ids = torch.zeros(1, 8, dtype=torch.long)
    # Loggers of `transformers` do not pass on to the root, where caplog listens.
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    try:
        build()(input_ids=ids, labels=ids)
    finally:
        logger.removeHandler(caplog.handler)
    assert not caplog.records


def test_export_has_no_tokens_of_another_vocabulary_and_writes_with_a_cache(tmp_path: Path) -> None:
    build().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["bos_token_id"] is None
    assert config["eos_token_id"] is None
    assert json.loads((tmp_path / "generation_config.json").read_text())["use_cache"] is True


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(InputError, match=r"^model\.num_heads: expected a divisor of model\.hidden_size 16, got 3"):
        build(num_heads=3)
