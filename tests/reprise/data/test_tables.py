import csv
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reprise.data.split_files import find_split_files
from reprise.data.tables import Columns, Table, read_hub, read_table
from reprise.errors import InputError

Rows = list[tuple[Any, Any]]
ROWS: Rows = [(f"film number {number}, indeed", "praise" if number % 2 else "blame") for number in range(40)]
COLUMNS = Columns("text", "label")


def read(path: Path) -> Table:
    return read_table(path, COLUMNS)


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


@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_of_file_gives_the_same_rows(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"reviews.{kind}"
    WRITERS[kind](path, ROWS)
    table = read(path)
    assert list(zip(table.texts, table.labels, strict=True)) == ROWS
    first, second = (2, 3) if kind == "csv" else (1, 2)
    word = "row" if kind == "parquet" else "line"
    assert table.first_places == {
        "blame": f"data.path: {path}, {word} {first}",
        "praise": f"data.path: {path}, {word} {second}",
    }


def test_a_class_that_is_a_number_has_the_same_name_in_every_kind_of_file(tmp_path: Path) -> None:
    for kind, labels in {"csv": ["1", "0"], "jsonl": [1, 0], "parquet": [1.0, 0.0]}.items():
        path = tmp_path / f"reviews.{kind}"
        WRITERS[kind](path, [("good", labels[0]), ("bad", labels[1])])
        assert read(path).labels == ["1", "0"]


def test_rows_can_be_taken_by_number(tmp_path: Path) -> None:
    write_csv(tmp_path / "reviews.csv", ROWS)
    table = read(tmp_path / "reviews.csv")
    assert table.take([3, 0]) == Table([ROWS[3][0], ROWS[0][0]], ["praise", "blame"], table.first_places)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "data.text_column: {path} has no column 'text'"),
        (b"text,label\n", "data.path: {path} has no rows"),
        (b"text,sentiment\na,b\n", "data.label_column: {path} has no column 'label'; it has 'text', 'sentiment'"),
        (b"text,label\na,b\na,b,c\n", "data.path: {path}, line 3: expected 2 cells as in the first line, found 3"),
        (b'text,label\na,b\n"a,b\n', "data.path: {path}, line 3: not CSV: unexpected end of data"),
        (b"text,label\na,b\ngr\xfc\xdfe,b\n", "data.path: {path}, line 3: expected UTF-8, found the byte 0xfc"),
        ("text,label\na,b\n".encode("utf-16"), "data.path: {path}, line 1: expected UTF-8, found the byte 0xff"),
        (b"text,label\na,b\nb,\n", "data.path: {path}, line 3: expected a text or a number as label"),
    ],
)
def test_what_is_wrong_with_a_csv_file_is_said(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "reviews.csv"
    path.write_bytes(content)
    with pytest.raises(InputError) as raised:
        read(path)
    assert str(raised.value).startswith(message.format(path=path))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "data.path: {path}, line 2: not JSON"),
        ("[1]", "data.path: {path}, line 2: expected a JSON object, got list"),
        ('{"text": "a"}', "data.label_column: {path}, line 2 has no column 'label'; it has 'text'"),
        ('{"text": 5, "label": "a"}', "data.path: {path}, line 2: expected a text in column 'text', got 5"),
        ('{"text": "a", "label": null}', "data.path: {path}, line 2: expected a text or a number as label"),
        ('{"text": "a", "label": ' + "9" * 5000 + "}", "data.path: {path}, line 2: not JSON"),
        ('{"text": "a", "label": [1]}', "data.path: {path}, line 2: expected a text or a number as label"),
    ],
)
def test_what_is_wrong_with_a_jsonl_file_is_said(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "reviews.jsonl"
    path.write_text(f'{{"text": "a", "label": "b"}}\n{line}\n', encoding="utf-8")
    with pytest.raises(InputError) as raised:
        read(path)
    assert str(raised.value).startswith(message.format(path=path))


def test_what_is_no_parquet_file_is_said(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "reviews.parquet").write_bytes(b"text,label\n")
    with pytest.raises(InputError, match=r"^data\.path: .*reviews\.parquet: not a Parquet file"):
        read(tmp_path / "reviews.parquet")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "reviews.xlsx").write_bytes(b"")
    with pytest.raises(InputError, match=r"^data\.path: expected a file that ends in \.csv or \.jsonl or \.parquet"):
        read(tmp_path / "reviews.xlsx")


def test_a_bad_row_in_the_middle_of_a_million_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    good = b"a,b\n" * 500_000
    for bad, message in (
        (b"a\n", "line 500002: expected 2 cells as in the first line, found 1"),
        (b"gr\xfc\xdfe,b\n", "line 500002: expected UTF-8, found the byte 0xfc"),
    ):
        path.write_bytes(b"text,label\n" + good + bad + good)
        with pytest.raises(InputError, match=re.escape(f"data.path: {path}, {message}")):
            read(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_csv(tmp_path / "reviews.csv", ROWS)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("io.open", refuse)
    with pytest.raises(InputError, match=r"^data\.path: .*reviews\.csv cannot be read: Permission denied"):
        read(tmp_path / "reviews.csv")


def test_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"^data\.hub_name: needs datasets, .*\[hub\]"):
        read_hub("someone/something", COLUMNS)
    (tmp_path / "reviews.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"^data\.path: .*needs pyarrow.*\[parquet\]"):
        read(tmp_path / "reviews.parquet")


def test_files_of_a_directory_give_the_splits_under_each_of_their_names(tmp_path: Path) -> None:
    for name in ("Training.csv", "dev.jsonl", "test.csv", "readme.md"):
        (tmp_path / name).touch()
    found = find_split_files(tmp_path, {".csv", ".jsonl"})
    assert {split: path.name for split, path in found.items()} == {
        "train": "Training.csv",
        "val": "dev.jsonl",
        "test": "test.csv",
    }


def test_two_files_for_one_split_are_refused(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", ROWS)
    write_jsonl(tmp_path / "train.jsonl", ROWS)
    with pytest.raises(InputError, match=r"^data\.path: .*found train\.csv and train\.jsonl"):
        find_split_files(tmp_path)
