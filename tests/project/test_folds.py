"""Of every data set each sample is tested in one fold."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from project.data.digits import load_digits
from project.data.language_model import load_language_model
from project.data.text_classification import load_text_classification
from reprise.data import Data
from reprise.errors import InputError

FRACTIONS: dict[str, Any] = {"train_split": 0.8, "val_split": 0.1, "seed": 0}


def test_every_digit_is_tested_once_and_is_then_in_no_other_split() -> None:
    folds = [load_digits(**FRACTIONS, fold=fold, num_folds=4) for fold in range(4)]
    whole = images(load_digits(**FRACTIONS), "train", "val", "test")
    assert sum((images(data, "test") for data in folds), Counter()) == whole
    assert all(images(data, "train", "val", "test") == whole for data in folds)


def test_stratified_digits_have_the_same_share_of_each_class_in_every_fold() -> None:
    for fold in range(5):
        labels = load_digits(**FRACTIONS, fold=fold, stratify=True).splits["test"].columns["labels"]  # type: ignore[attr-defined]
        counts = torch.bincount(labels)
        assert int(counts.max() - counts.min()) <= 3  # there are 174 to 183 of each


def images(data: Data, *splits: str) -> Counter[bytes]:
    found: Counter[bytes] = Counter()
    for split in splits:
        found.update(image.numpy().tobytes() for image in data.splits[split].columns["pixel_values"])  # type: ignore[attr-defined]
    return found


def test_every_row_of_a_table_and_every_character_of_a_text_is_tested_once(tmp_path: Path) -> None:
    table, text = tmp_path / "table.jsonl", tmp_path / "text.txt"
    # A text is known by its length: words that do not occur in training would all be one.
    rows = [{"text": "word " * (number + 1), "label": "ab"[number % 3 == 0]} for number in range(60)]
    table.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    text.write_text("".join(map(chr, range(0x4E00, 0x4E00 + 300))))
    tested: list[int] = []
    num_bytes = 0
    for fold in range(3):
        place: dict[str, Any] = {"path": str(table), "tokenizer": "word", "max_length": 80}
        data = load_text_classification(**place, **FRACTIONS, fold=fold, num_folds=3, stratify=True)
        test = [data.splits["test"][index] for index in range(20)]
        assert [int(sample["labels"]) for sample in test].count(1) in (6, 7)
        tested += [len(sample["input_ids"]) - 2 for sample in test]
        written = load_language_model(
            path=str(text), tokenizer="bytes", context_length=8, **FRACTIONS, fold=fold, num_folds=3
        )
        windows = written.splits["test"]
        num_predicted = [written.count_items(written.collate([windows[i]])) for i in range(len(windows))]
        num_bytes += sum(num_predicted) + 1  # all but the first of a split are predicted
    assert sorted(tested) == list(range(1, 61))
    assert num_bytes == len(text.read_bytes())


def test_files_that_give_the_splits_leave_none_to_a_fold(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text("text,label\none,a\ntwo,b\n")
    place: dict[str, Any] = {"path": str(tmp_path), "tokenizer": "word", "max_length": 8}
    with pytest.raises(InputError, match=r"data\.fold: .* comes in splits already"):
        load_text_classification(**place, **FRACTIONS, fold=0)
    with pytest.raises(InputError, match=r"data\.fold: .* comes in splits already"):
        load_language_model(path=str(tmp_path), tokenizer="bytes", context_length=8, **FRACTIONS, fold=0)
