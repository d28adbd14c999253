"""Reads texts with labels from CSV, JSONL and Parquet files, and from the Hugging Face Hub; every row or none."""

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprise.config import InputError

Row = tuple[int, Any, Any]
"""Number of the line or row, for messages; text; label."""


@dataclass(frozen=True)
class Columns:
    """The columns that hold the texts and the labels."""

    text: str
    label: str

    def check(self, there: Mapping[str, Any] | list[str], place: str) -> None:
        for key, column in (("data.text_column", self.text), ("data.label_column", self.label)):
            if column not in there:
                raise InputError(f"{key}: {place} has no column {column!r}; it has {', '.join(map(repr, there))}")


@dataclass(frozen=True)
class Table:
    """Texts, and the name of each one's class, in the order of the source."""

    texts: list[str]
    labels: list[str]

    def take(self, rows: Any) -> "Table":
        """Return the rows with these numbers."""
        return Table([self.texts[row] for row in rows], [self.labels[row] for row in rows])


def read_table(path: Path, columns: Columns) -> Table:
    """Return the texts and labels of one file.

    Raises:
        InputError: if the file, a column or a row cannot be read, with the file and the line or row.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"data.path: expected a file that ends in {', '.join(READERS)}, got {str(path)!r}")
    unit = "row" if reader is _read_parquet else "line"
    number = 0
    texts, labels = [], []
    try:
        for number, text, label in reader(path, columns):
            if not isinstance(text, str):
                raise ValueError(f"expected a text in column {columns.text!r}, got {text!r}")
            texts.append(text)
            labels.append(_class_name(label, columns.label))
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise InputError(
            f"data.path: {path}, after {unit} {number}: expected UTF-8, found the byte 0x{byte:02x}; "
            f"`iconv -f latin1 -t utf-8` converts, where latin1 is what the file is written in"
        ) from None
    except _RowError as error:
        raise InputError(f"data.path: {path}, {unit} {error.number}: {error}") from None
    except ValueError as error:
        raise InputError(f"data.path: {path}, {unit} {number}: {error}") from None
    if not texts:
        raise InputError(f"data.path: {path} has no rows")
    return Table(texts, labels)


def read_hub(name: str, columns: Columns) -> dict[str, Table]:
    """Return the splits train, val and test of a data set on the Hub, those that it has.

    `name`: as in `datasets.load_dataset`, or such a name, a colon, and one of the data set's configurations.
    """
    try:
        import datasets
    except ImportError:
        raise InputError(
            "data.hub_name: needs `datasets`, which is not installed; install the extra: pip install -e '.[hub]'"
        ) from None
    address, _, configuration = name.partition(":")
    try:
        found = datasets.load_dataset(address, configuration or None)
    except Exception as error:  # whatever the network, the Hub or the data set's own files bring up
        first_line = str(error).strip().split("\n")[0]
        raise InputError(f"data.hub_name: cannot load {name!r}: {type(error).__name__}: {first_line}") from error
    tables = {}
    for split, names in {"train": ["train"], "val": ["validation", "val", "dev"], "test": ["test"]}.items():
        present = [candidate for candidate in names if candidate in found]
        if present:
            rows = found[present[0]]
            columns.check(rows.column_names, f"{name!r}")
            class_names = getattr(rows.features[columns.label], "names", None)
            tables[split] = _hub_table(rows, columns, class_names, f"{name!r}, split {present[0]}")
    if "train" not in tables:
        raise InputError(f"data.hub_name: {name!r} has no split train; it has {', '.join(found)}")
    return tables


def _hub_table(rows: Any, columns: Columns, class_names: list[str] | None, place: str) -> Table:
    texts, labels = [], []
    for number, (text, label) in enumerate(zip(rows[columns.text], rows[columns.label], strict=True)):
        if not isinstance(text, str):
            raise InputError(f"data.text_column: {place}, row {number}: expected a text, got {text!r}")
        if class_names is not None and (label is None or label < 0):
            raise InputError(f"data.hub_name: {place}, row {number}: it has no label; such a split cannot be scored")
        texts.append(text)
        try:
            labels.append(_class_name(label if class_names is None else class_names[label], columns.label))
        except ValueError as error:
            raise InputError(f"data.label_column: {place}, row {number}: {error}") from None
    return Table(texts, labels)


class _RowError(ValueError):
    """A row that the reader itself could not make sense of."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number


def _read_csv(path: Path, columns: Columns) -> Iterator[Row]:
    csv.field_size_limit(2**31 - 1)  # the default refuses texts of 128 KiB
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        header = next(reader, [])
        columns.check(header, str(path))
        text, label = header.index(columns.text), header.index(columns.label)
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise _RowError(reader.line_num, f"not CSV: {error}") from None
            if row and len(row) != len(header):
                raise _RowError(reader.line_num, f"expected {len(header)} cells as in the first line, found {len(row)}")
            if row:
                yield reader.line_num, row[text], row[label]


def _read_jsonl(path: Path, columns: Columns) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    row = json.loads(line)
                except (json.JSONDecodeError, RecursionError) as error:
                    raise _RowError(number, f"not JSON: {error}") from None
                if not isinstance(row, dict):
                    raise _RowError(number, f"expected a JSON object, got {type(row).__name__}")
                columns.check(row, f"{path}, line {number}")
                yield number, row[columns.text], row[columns.label]


def _read_parquet(path: Path, columns: Columns) -> Iterator[Row]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise InputError(
            f"data.path: {path} needs `pyarrow`, which is not installed; install the extra: pip install -e '.[parquet]'"
        ) from None
    try:
        with parquet.ParquetFile(path) as file:
            columns.check(file.schema_arrow.names, str(path))
            number = 0
            for batch in file.iter_batches(columns=[columns.text, columns.label]):
                texts, labels = (batch.column(name).to_pylist() for name in (columns.text, columns.label))
                for number, (text, label) in enumerate(zip(texts, labels, strict=True), start=number + 1):
                    yield number, text, label
    except ArrowException as error:
        raise InputError(f"data.path: {path}: not a Parquet file: {error}") from None


READERS: dict[str, Callable[[Path, Columns], Iterator[Row]]] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
"""By suffix."""


def _class_name(label: Any, column: str) -> str:
    if isinstance(label, str) and label:
        return label
    if isinstance(label, bool):
        return str(label).lower()
    if isinstance(label, int):
        return str(label)
    if isinstance(label, float) and math.isfinite(label):
        # Tables with gaps turn whole numbers into floats: 1.0 is the class 1.
        return str(int(label)) if label.is_integer() else str(label)
    raise ValueError(f"expected a text or a number as label in column {column!r}, got {label!r}")
