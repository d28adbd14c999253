"""Reads texts with labels from CSV, JSONL and Parquet files, and from the Hugging Face Hub; every row or none."""

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reprise.errors import InputError, MissingExtra

Row = tuple[str, Any, Any]
"""Where it stands, to begin a message with; text; label."""


@dataclass(frozen=True)
class Columns:
    """The columns that hold the texts and the labels."""

    text: str
    label: str

    def check(self, there: Sequence[str], place: str) -> None:
        for key, column in (("data.text_column", self.text), ("data.label_column", self.label)):
            if column not in there:
                raise InputError(f"{key}: {place} has no column {column!r}; it has {', '.join(map(repr, there))}")


@dataclass(frozen=True)
class Table:
    """Texts, and the name of each one's class, in the order of the source."""

    texts: list[str]
    labels: list[str]
    first_places: Mapping[str, str] = field(default_factory=dict)
    """By label, where the first row that has it stands."""

    def take(self, rows: Any) -> "Table":
        """Return the rows with these numbers."""
        return Table([self.texts[row] for row in rows], [self.labels[row] for row in rows], self.first_places)


def read_table(path: Path, columns: Columns) -> Table:
    """Return the texts and labels of one file.

    Raises:
        InputError: if the file, a column or a row cannot be read, with the file and the line or row.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"data.path: expected a file that ends in {' or '.join(READERS)}, got {str(path)!r}")
    texts, labels, first_places = [], [], dict[str, str]()
    try:
        for place, text, label in reader(path, columns):
            texts.append(_text(text, columns.text, place))
            labels.append(_class_name(label, columns.label, place))
            first_places.setdefault(labels[-1], place)
    except UnicodeDecodeError:
        raise _not_utf8(path) from None
    except OSError as error:
        raise InputError(f"data.path: {path} cannot be read: {error.strerror or error}") from None
    if not texts:
        raise InputError(f"data.path: {path} has no rows")
    return Table(texts, labels, first_places)


def read_hub(name: str, columns: Columns) -> dict[str, Table]:
    """Return the splits train, val and test of a data set on the Hub, those that it has.

    `name`: as in `datasets.load_dataset`, or such a name, a colon, and one of the data set's configurations.
    """
    try:
        import datasets
    except ImportError:
        raise MissingExtra("data.hub_name", "datasets", "hub") from None
    address, _, configuration = name.partition(":")
    _ask_hub(address)
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


def _ask_hub(address: str) -> None:
    """Find out with one question what `datasets` would try again and again for 23 seconds."""
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled, RepositoryNotFoundError

    try:
        huggingface_hub.dataset_info(address, timeout=10.0)
    except OfflineModeIsEnabled:
        pass  # the user means the local cache
    except (HFValidationError, RepositoryNotFoundError):
        raise InputError(f"data.hub_name: there is no data set {address!r} on the Hub") from None
    except Exception as error:
        raise InputError(
            f"data.hub_name: the Hub is out of reach ({error}); with HF_HUB_OFFLINE=1 a data set that was loaded "
            f"before comes from the local cache"
        ) from error


def _hub_table(rows: Any, columns: Columns, class_names: list[str] | None, split: str) -> Table:
    texts, labels = [], []
    for number, (text, label) in enumerate(zip(rows[columns.text], rows[columns.label], strict=True)):
        place = f"data.hub_name: {split}, row {number}"
        texts.append(_text(text, columns.text, place))
        if class_names is not None and label is not None and label >= 0:
            label = class_names[label]
        elif class_names is not None:
            raise InputError(f"{place}: it has no label; a split without labels cannot be scored")
        labels.append(_class_name(label, columns.label, place))
    return Table(texts, labels)


def _read_csv(path: Path, columns: Columns) -> Iterator[Row]:
    csv.field_size_limit(2**31 - 1)  # the default refuses texts of 128 KiB
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = next(reader, [])
            columns.check(header, str(path))
            text, label = header.index(columns.text), header.index(columns.label)
            for row in reader:
                place = f"data.path: {path}, line {reader.line_num}"
                if row and len(row) != len(header):
                    raise InputError(f"{place}: expected {len(header)} cells as in the first line, found {len(row)}")
                if row:
                    yield place, row[text], row[label]
        except csv.Error as error:
            raise InputError(f"data.path: {path}, line {reader.line_num}: not CSV: {error}") from None


def _read_jsonl(path: Path, columns: Columns) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            place = f"data.path: {path}, line {number}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InputError(f"{place}: not JSON: {error}") from None
            if not isinstance(row, dict):
                raise InputError(f"{place}: expected a JSON object, got {type(row).__name__}")
            columns.check(list(row), f"{path}, line {number}")
            yield place, row[columns.text], row[columns.label]


def _read_parquet(path: Path, columns: Columns) -> Iterator[Row]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise MissingExtra(f"data.path: {path}", "pyarrow", "parquet") from None
    try:
        with parquet.ParquetFile(path) as file:
            columns.check(file.schema_arrow.names, str(path))
            number = 0
            for batch in file.iter_batches(columns=[columns.text, columns.label]):
                texts, labels = (batch.column(name).to_pylist() for name in (columns.text, columns.label))
                for text, label in zip(texts, labels, strict=True):
                    number += 1
                    yield f"data.path: {path}, row {number}", text, label
    except ArrowException as error:
        raise InputError(f"data.path: {path}: not a Parquet file: {error}") from None


READERS: dict[str, Callable[[Path, Columns], Iterator[Row]]] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
"""By suffix."""


def _text(value: Any, column: str, place: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{place}: expected a text in column {column!r}, got {value!r}")
    return value


def _class_name(label: Any, column: str, place: str) -> str:
    if isinstance(label, str) and label:
        return label
    if isinstance(label, bool):
        return str(label).lower()
    if isinstance(label, int):
        return str(label)
    if isinstance(label, float) and math.isfinite(label):
        # Tables with gaps turn whole numbers into floats: 1.0 is the class 1.
        return str(int(label)) if label.is_integer() else str(label)
    raise InputError(f"{place}: expected a text or a number as label in column {column!r}, got {label!r}")


def _not_utf8(path: Path) -> InputError:
    content = path.read_bytes()
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line, byte = content.count(b"\n", 0, error.start) + 1, content[error.start]
        encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin1"
        return InputError(
            f"data.path: {path}, line {line}: expected UTF-8, found the byte 0x{byte:02x}; convert the file, "
            f"for example: iconv -f {encoding} -t utf-8"
        )
    return InputError(f"data.path: {path}: expected UTF-8")
