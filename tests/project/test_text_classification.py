import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from project.data.text_classification import load_text_classification
from reprise.data import Data
from reprise.errors import InputError

TEXTS = [f"{'good' if number % 2 else 'bad'} film number {number}, indeed" for number in range(40)]
LABELS = ["praise" if number % 2 else "blame" for number in range(40)]

Rows = list[tuple[Any, Any]]
ROWS: Rows = list(zip(TEXTS, LABELS, strict=True))


def load(path: Path | None, **changes: Any) -> Data:
    arguments: dict[str, Any] = {"tokenizer": "word", "max_length": 16, "train_split": 0.8, "val_split": 0.1, "seed": 1}
    return load_text_classification(path=None if path is None else str(path), **(arguments | changes))


def write_csv(path: Path, rows: Rows) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])


def write_jsonl(path: Path, rows: Rows) -> None:
    lines = (json.dumps({"label": label, "text": text}) + "\n" for text, label in rows)
    path.write_text("".join(lines), encoding="utf-8")


def write_parquet(path: Path, rows: Rows) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    texts, labels = zip(*rows, strict=True)
    parquet.write_table(pyarrow.table({"text": list(texts), "label": list(labels)}), path)


WRITERS: dict[str, Callable[[Path, Rows], None]] = {
    "csv": write_csv,
    "jsonl": write_jsonl,
    "parquet": write_parquet,
}


@pytest.fixture(scope="module")
def names() -> Data:
    return load(None)


@pytest.fixture(params=WRITERS)
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"reviews.{request.param}"
    WRITERS[request.param](path, ROWS)
    return path


def texts_of(data: Data, split: str) -> list[str]:
    rows = data.splits[split]
    return [data.processor.decode(rows[i]["input_ids"], skip_special_tokens=True) for i in range(len(rows))]


def test_every_kind_of_file_gives_the_same_splits(table: Path, tmp_path: Path) -> None:
    reference = tmp_path / "reference" / "reviews.csv"
    reference.parent.mkdir()
    write_csv(reference, ROWS)
    data = load(table)
    assert data.description.fingerprints == load(reference).description.fingerprints
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 32, "val": 4, "test": 4}
    assert data.description.labels == ("blame", "praise")


def test_splits_are_disjoint_and_together_all_rows(tmp_path: Path) -> None:
    write_csv(tmp_path / "reviews.csv", ROWS)
    data = load(tmp_path / "reviews.csv")
    # All texts differ, so a text in two splits would be counted as one that occurs in training, too.
    assert sum(len(split) for split in data.splits.values()) == len(set(TEXTS))
    assert data.description.caveats == ()


def test_splits_of_a_directory_are_kept(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", ROWS[:20])
    write_jsonl(tmp_path / "validation.jsonl", ROWS[20:30])
    write_parquet(tmp_path / "test.parquet", ROWS[30:])
    data = load(tmp_path, min_count=1)
    assert texts_of(data, "train") == [text.replace(",", " ,") for text in TEXTS[:20]]
    assert [len(data.splits[name]) for name in ("train", "val", "test")] == [20, 10, 10]
    assert [int(data.splits["test"][row]["labels"]) for row in range(10)] == [0, 1] * 5


def test_missing_val_is_cut_from_train_only(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", ROWS[:30])
    write_csv(tmp_path / "test.csv", ROWS[30:])
    data = load(tmp_path)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 27, "val": 3, "test": 10}


def test_vocabulary_comes_from_the_training_split_only(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", ROWS[:20])
    write_csv(tmp_path / "val.csv", [("unheard words", "praise")])
    data = load(tmp_path)
    assert "unheard" not in data.processor.get_vocab()
    unknown = data.processor.unk_token_id
    assert data.splits["val"][0]["input_ids"].tolist()[1:-1] == [unknown, unknown]


def test_long_texts_are_cut_and_counted(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", [*ROWS, ("one two three four five six", "praise")])
    write_csv(tmp_path / "val.csv", ROWS[:4])
    data = load(tmp_path, max_length=8)
    assert not [caveat for caveat in data.description.caveats if "were cut" in caveat]
    assert data.splits["train"][40]["input_ids"].shape == (8,)
    data = load(tmp_path, max_length=7)
    assert "Texts of more than 7 tokens were cut: 41 of 41 in train, 4 of 4 in val." in data.description.caveats
    last = data.splits["train"][40]["input_ids"]
    assert data.processor.convert_ids_to_tokens(last)[-1] == "[SEP]"


def test_texts_that_are_in_training_too_are_counted(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", ROWS)
    write_csv(tmp_path / "val.csv", [*ROWS[:3], ("new", "praise")])
    assert "3 of 4 texts of the val split also occur in training." in load(tmp_path).description.caveats


def test_tokenizer_loads_from_an_export(names: Data, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, BertConfig

    names.processor.save_pretrained(tmp_path)
    BertConfig().save_pretrained(tmp_path)  # a model's config lies there, too
    loaded = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    for text in ("LATIN SMALL LETTER A", "hyphen-minus unheardof"):
        assert loaded(text).data == names.processor(text).data
    scope: dict[str, Any] = {"directory": str(tmp_path)}
    exec(names.usage, scope)
    assert scope["batch"].keys() == {"input_ids", "attention_mask"}


def test_local_directory_serves_as_tokenizer(names: Data, tmp_path: Path) -> None:
    names.processor.save_pretrained(tmp_path)
    data = load(None, tokenizer=str(tmp_path))
    assert torch.equal(data.splits["test"][7]["input_ids"], names.splits["test"][7]["input_ids"])


def test_names_are_the_data_without_a_path(names: Data) -> None:
    assert {name: len(split) for name, split in names.splits.items()} == {"train": 10254, "val": 1281, "test": 1282}
    assert names.facts["num_labels"] == len(names.description.labels) == 18
    assert any("siblings" in caveat for caveat in names.description.caveats)


def test_baselines_score_the_test_split(tmp_path: Path) -> None:
    write_csv(tmp_path / "reviews.csv", ROWS)
    (score,) = [baseline() for baseline in load(tmp_path / "reviews.csv").baselines.values()]
    assert score == {"accuracy": 1.0}


def test_labels_that_are_numbers_are_sorted_as_numbers(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "stars.jsonl", [(text, number % 11) for number, text in enumerate(TEXTS * 2)])
    assert load(tmp_path / "stars.jsonl").description.labels == tuple(map(str, range(11)))


def test_one_label_is_refused(tmp_path: Path) -> None:
    write_csv(tmp_path / "reviews.csv", [("a", "b")] * 20)
    with pytest.raises(InputError, match=r"^data\.label_column: expected two labels or more"):
        load(tmp_path / "reviews.csv")


def test_sources_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^data\.path: there is no file or directory"):
        load(tmp_path / "nothing.csv")
    with pytest.raises(InputError, match=r"^data\.path: .*expected a file train\.csv"):
        load(tmp_path)
    with pytest.raises(InputError, match=r"^data\.path, data\.hub_name: expected one of the two"):
        load(tmp_path, hub_name="someone/something")
    (tmp_path / "reviews.xlsx").write_bytes(b"")
    with pytest.raises(InputError, match=r"^data\.path: expected a file that ends in \.csv or \.jsonl or \.parquet"):
        load(tmp_path / "reviews.xlsx")


def test_label_that_training_does_not_have_is_refused(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", ROWS)
    write_csv(tmp_path / "val.csv", [ROWS[0], ("odd", "shrug")])
    with pytest.raises(
        InputError, match=r"^data\.label_column: 'shrug' in the val split \(.*val\.csv, line 3\) does not occur"
    ):
        load(tmp_path)


def test_rows_that_are_there_twice_are_counted(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", [*ROWS, ROWS[0], (ROWS[1][0], "another"), ("new", "another")])
    write_csv(tmp_path / "val.csv", ROWS[:4])
    (caveat,) = [caveat for caveat in load(tmp_path).description.caveats if "more than once" in caveat]
    distinct = len({text for text, _ in ROWS} | {"new"})
    others = len({*ROWS, (ROWS[1][0], "another"), ("new", "another")}) - distinct
    assert caveat == (
        f"{len(ROWS) + 3 - distinct} of {len(ROWS) + 3} texts of the training split are there more than once, "
        f"{others} with another label."
    )


@pytest.mark.parametrize("name", ["./not/here", "/not/here", "never/was/there"])
def test_tokenizer_directory_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"^model\.tokenizer: there is no directory"):
        load(None, tokenizer=name)


def test_tokenizer_that_cannot_be_reached_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"^model\.tokenizer: nothing can be loaded .* give a local directory"):
        load(None, tokenizer="reprise-tests/never-was")


def test_directory_of_weights_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    from transformers import BertConfig

    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"^model\.tokenizer: .* holds no vocabulary"):
        load(None, tokenizer=str(tmp_path))
