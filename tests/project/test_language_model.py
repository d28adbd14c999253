from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from project.data.language_model import load_language_model
from project.models.gpt2 import build_gpt2
from reprise.data import Data
from reprise.errors import InputError

TEXT = "".join(f"Line {number}: größer als ein Byte, 😀 und\ttab.\n" for number in range(60))


def load(path: Path | None, **changes: Any) -> Data:
    arguments: dict[str, Any] = {
        "tokenizer": "characters",
        "context_length": 16,
        "train_split": 0.8,
        "val_split": 0.1,
        "seed": 1,
    }
    return load_language_model(path=None if path is None else str(path), **(arguments | changes))


@pytest.fixture(scope="module")
def names() -> Data:
    return load(None, context_length=64)


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "book.txt"
    path.write_text(TEXT, encoding="utf-8", newline="")
    return path


def whole_split(data: Data, name: str) -> dict[str, torch.Tensor]:
    split: Any = data.splits[name]
    batch: dict[str, torch.Tensor] = split.get_batch(np.arange(len(split)), None)
    return batch


def text_of(data: Data, name: str) -> str:
    """Put the windows together again: all but the first token of each, after the very first."""
    batch = whole_split(data, name)
    predicted = batch["input_ids"][:, 1:][batch["labels"][:, 1:] != -100].tolist()
    text: str = data.processor.decode([int(batch["input_ids"][0, 0]), *predicted])
    return text


@pytest.mark.parametrize("tokenizer", ["characters", "bytes"])
def test_each_token_but_the_first_is_predicted_exactly_once(book: Path, tokenizer: str) -> None:
    # A byte tokenizer cannot show a character that is cut in two, so train alone, whose cut is between characters.
    data = load(book, tokenizer=tokenizer)
    assert text_of(data, "train") == TEXT[: round(len(TEXT) * 0.8)]
    batch = whole_split(data, "train")
    num_tokens = len(data.processor(TEXT[: round(len(TEXT) * 0.8)])["input_ids"])
    assert data.count_items(batch) == num_tokens - 1
    assert batch["input_ids"].shape == (-(-(num_tokens - 1) // 15), 16)


def test_windows_overlap_by_one_token(names: Data) -> None:
    batch = whole_split(names, "test")
    assert torch.equal(batch["input_ids"][1:, 0], batch["input_ids"][:-1, -1])
    assert torch.equal(batch["labels"][:-1], batch["input_ids"][:-1])


def test_count_of_items_is_what_the_loss_of_the_model_is_a_mean_over(names: Data) -> None:
    torch.manual_seed(0)
    model = tiny_model(names)
    last: Any = names.splits["test"]
    batch = last.get_batch(np.array([0, len(last) - 1]), None)
    with torch.no_grad():
        output = model(**batch)
    targets = batch["labels"][:, 1:]
    nats = torch.nn.functional.cross_entropy(output.logits[:, :-1].transpose(1, 2), targets, reduction="sum")
    assert 64 <= names.count_items(batch) < 2 * 63
    torch.testing.assert_close(output.loss * names.count_items(batch), nats)


def test_portions_of_a_file_are_contiguous(book: Path) -> None:
    data = load(book)
    ends = [0, *(round(len(TEXT) * fraction) for fraction in (0.8, 0.9)), len(TEXT)]
    for name, start, end in zip(("train", "val", "test"), ends, ends[1:], strict=False):
        assert text_of(data, name) == TEXT[start:end]


def test_files_of_a_directory_are_taken_in_the_order_of_their_names(book: Path, tmp_path: Path) -> None:
    directory = tmp_path / "parts"
    (directory / "b").mkdir(parents=True)
    (directory / "b" / "second.md").write_text(TEXT[500:], encoding="utf-8", newline="")
    (directory / "a.txt").write_text(TEXT[:500], encoding="utf-8", newline="")
    (directory / ".hidden").write_bytes(b"\xff")
    assert load(directory).description.fingerprints == load(book).description.fingerprints


def test_splits_of_a_directory_are_kept(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("abcabc", encoding="utf-8")
    (tmp_path / "valid.txt").write_text("cab", encoding="utf-8")
    (tmp_path / "test.txt").write_text("abcd", encoding="utf-8")
    data = load(tmp_path)
    assert [text_of(data, name) for name in ("train", "val", "test")] == [
        "abcabc",
        "cab",
        "abc\N{REPLACEMENT CHARACTER}",
    ]
    assert data.description.caveats == (
        "1 of 4 characters of the test split do not occur in training and count as one unknown character.",
    )


def test_missing_val_is_the_end_of_train(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text(TEXT[:1000], encoding="utf-8")
    (tmp_path / "test.txt").write_text(TEXT[1000:], encoding="utf-8")
    data = load(tmp_path)
    assert [text_of(data, name) for name in ("train", "val")] == [TEXT[:900], TEXT[900:1000]]


def test_vocabulary_comes_from_the_training_split_only(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("abcabc", encoding="utf-8")
    (tmp_path / "val.txt").write_text("xyz", encoding="utf-8")
    data = load(tmp_path)
    assert data.processor.get_vocab() == {"\N{REPLACEMENT CHARACTER}": 0, "a": 1, "b": 2, "c": 3}
    assert data.facts["vocab_size"] == 4


@pytest.mark.parametrize("tokenizer", ["characters", "bytes"])
def test_tokenizer_of_an_export_gives_the_tokens_of_the_splits(book: Path, tmp_path: Path, tokenizer: str) -> None:
    from transformers import AutoTokenizer, GPT2Config

    data = load(book, tokenizer=tokenizer)
    export = tmp_path / "export"
    data.processor.save_pretrained(export)
    GPT2Config().save_pretrained(export)  # a model's config lies there, too
    loaded = AutoTokenizer.from_pretrained(export, local_files_only=True)
    train = TEXT[: round(len(TEXT) * 0.8)]
    ids = loaded(train)["input_ids"]
    assert ids[:16] == data.splits["train"][0]["input_ids"].tolist()
    assert ids[15:31] == data.splits["train"][1]["input_ids"].tolist()
    assert loaded.decode(ids) == train
    scope: dict[str, Any] = {"directory": str(export)}
    exec(data.usage, scope)
    assert scope["batch"]["input_ids"].shape[0] == 1


def test_bytes_are_their_own_numbers_and_know_where_characters_start(book: Path) -> None:
    data = load(book, tokenizer="bytes")
    text = "aß😀\x00"
    ids = data.processor(text)["input_ids"]
    assert ids == list(text.encode())
    assert data.facts["vocab_size"] == 256
    assert int(data.facts["character_starts"][ids].sum()) == len(text)


def test_names_are_split_by_name(names: Data) -> None:
    lines = {name: text_of(names, name).split("\n")[:-1] for name in names.splits}
    assert {name: len(rows) for name, rows in lines.items()} == {"train": 10309, "val": 1288, "test": 1289}
    assert len(set(lines["train"]) | set(lines["val"]) | set(lines["test"])) == 12_886


def test_baselines_are_bits_for_a_character_of_the_test_split(names: Data) -> None:
    unigram, xz = (baseline()["bits_per_character"] for baseline in names.baselines.values())
    assert 4.3 < unigram < 4.4
    assert 1.2 < xz < 1.4


def tiny_model(data: Data) -> torch.nn.Module:
    facts = {name: data.facts[name] for name in ("vocab_size", "context_length")}
    return build_gpt2(hidden_size=16, num_layers=1, dropout=0.1, num_heads=2, **facts)


def test_samples_depend_on_the_seed_alone(names: Data) -> None:
    torch.manual_seed(0)
    model = tiny_model(names)
    state = torch.get_rng_state()
    generate = names.generate
    assert generate is not None
    first = generate(model, 5)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    torch.manual_seed(1)
    assert generate(model, 5) == first
    assert generate(model, 6) != first
    assert all("\n" not in sample for sample in first)


def test_what_is_wrong_with_a_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^data\.path: there is no file or directory"):
        load(tmp_path / "nothing.txt")
    with pytest.raises(InputError, match=r"^data\.path: the directory .* holds no files"):
        load(tmp_path)
    (tmp_path / "latin.txt").write_bytes(b"gr\xfc\xdfe")
    with pytest.raises(InputError, match=r"^data\.path: .*latin\.txt: expected text in UTF-8, .* 0xfc at position 2"):
        load(tmp_path)
    (tmp_path / "latin.txt").write_bytes(b"abcde")
    with pytest.raises(InputError, match=r"^data\.path: the val split holds 0 characters; expected 2 or more"):
        load(tmp_path)
    with pytest.raises(InputError, match=r"^data\.path: the train split holds 1 characters; expected 2 or more"):
        load(tmp_path, train_split=0.2)
