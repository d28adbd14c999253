from pathlib import Path
from typing import Any

import pytest
import torch

from project.models.bert import build_bert
from reprise.errors import InputError

SIZES: dict[str, Any] = {"hidden_size": 16, "num_layers": 2, "dropout": 0.1, "num_heads": 2, "intermediate_size": 32}
FACTS: dict[str, Any] = {"vocab_size": 30, "max_length": 12, "num_labels": 3, "label_names": ["a", "b", "c"]}


def build(**changes: Any) -> Any:
    torch.manual_seed(0)
    return build_bert(**(SIZES | FACTS | {"pretrained": None} | changes))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    build().save_pretrained(tmp_path)
    return tmp_path


def test_model_scores_each_text_for_each_label() -> None:
    batch = {"input_ids": torch.tensor([[2, 7, 3], [2, 3, 0]]), "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]])}
    output = build().eval()(**batch, labels=torch.tensor([0, 2]))
    assert output.logits.shape == (2, 3)
    assert output.loss.shape == ()


def test_config_is_complete_before_the_first_loss() -> None:
    config = build().config
    assert config.problem_type == "single_label_classification"
    assert config.id2label == {0: "a", 1: "b", 2: "c"}
    assert config.max_position_embeddings == 12


def test_padding_changes_no_score() -> None:
    model = build().eval()
    ids, mask = torch.tensor([[2, 7, 3]]), torch.tensor([[1, 1, 1]])
    padded_ids, padded_mask = torch.tensor([[2, 7, 3, 0, 0]]), torch.tensor([[1, 1, 1, 0, 0]])
    torch.testing.assert_close(
        model(input_ids=ids, attention_mask=mask).logits,
        model(input_ids=padded_ids, attention_mask=padded_mask).logits,
    )


def test_pretrained_weights_of_a_directory_are_loaded_to_the_bit(weights: Path) -> None:
    loaded, reference = build(pretrained=str(weights), dropout=0.3), build()
    state = reference.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.state_dict().items())
    assert loaded.config.hidden_dropout_prob == loaded.config.attention_probs_dropout_prob == 0.3
    assert loaded.config.problem_type == "single_label_classification"


def test_classifier_starts_afresh_for_other_labels(weights: Path) -> None:
    loaded = build(pretrained=str(weights), num_labels=4, label_names=["w", "x", "y", "z"])
    assert loaded.classifier.weight.shape == (4, 16)
    assert loaded.config.label2id == {"w": 0, "x": 1, "y": 2, "z": 3}
    embedding = "bert.embeddings.word_embeddings.weight"
    assert torch.equal(loaded.state_dict()[embedding], build().state_dict()[embedding])


def test_half_precision_weights_are_loaded_as_float32(tmp_path: Path) -> None:
    build().half().save_pretrained(tmp_path)
    assert {parameter.dtype for parameter in build(pretrained=str(tmp_path)).parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 32}, "model.hidden_size: expected 16, as the weights of "),
        ({"num_layers": 3}, "model.num_layers: expected 2, as the weights of "),
        ({"max_length": 13}, "data.max_length: expected at most 12, as "),
        ({"vocab_size": 31}, "model.tokenizer: its 31 tokens are more than the 30 that "),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights: Path, change: dict[str, int], message: str) -> None:
    with pytest.raises(InputError) as raised:
        build(pretrained=str(weights), **change)
    assert str(raised.value).startswith(message)


def test_weights_without_an_encoder_are_refused(weights: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(weights / "model.safetensors")
    del tensors["bert.encoder.layer.1.output.dense.weight"]
    save_file(tensors, weights / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        InputError, match=r"^model\.pretrained: .* lacks 1 weights of the encoder, such as bert\.encoder"
    ):
        build(pretrained=str(weights))


@pytest.mark.parametrize("name", ["./not/here", "/not/here", "never/was/there"])
def test_directory_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"^model\.pretrained: there is no directory .* model=bert_tiny"):
        build(pretrained=name)


def test_weights_that_cannot_be_reached_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"^model\.pretrained: nothing can be loaded .* model=bert_tiny"):
        build(pretrained="reprise-tests/never-was")


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(InputError, match=r"^model\.num_heads: expected a divisor of model\.hidden_size 16, got 3"):
        build(num_heads=3)
