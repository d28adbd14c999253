"""Texts with one label each: from a table of one's own, from the Hub, or, with neither, names of Unicode characters."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from project.data import unicode_names
from reprise.config import Fraction, NonNegativeInt, PositiveInt, Range
from reprise.data import Data, Description, fingerprint
from reprise.data.split_files import find_split_files
from reprise.data.splitting import split_rows
from reprise.data.tables import READERS, Columns, Table, read_hub, read_table
from reprise.data.tokenization import train_word_tokenizer
from reprise.data.tokenized_texts import TextSplit, pad, tokenize
from reprise.errors import InputError
from reprise.models.pretrained import load_pretrained

_MIN_NAMES_OF_CATEGORY = 30

_USAGE = """\
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(directory)
batch = tokenizer([{text!r}], truncation=True, max_length={max_length}, return_tensors="pt")"""


def load_text_classification(
    *,
    path: str | None = None,
    hub_name: str | None = None,
    text_column: str = "text",
    label_column: str = "label",
    tokenizer: str,
    max_length: Annotated[int, Range(min=3)],
    vocabulary_size: Annotated[int, Range(min=5)] = 30_000,
    min_count: PositiveInt = 1,
    train_split: Annotated[float, Range(above=0, max=1)],
    val_split: Fraction,
    fold: NonNegativeInt | None = None,
    num_folds: PositiveInt = 5,
    stratify: bool = False,
    seed: int,
) -> Data:
    """Return token ids of texts, cut at `max_length` tokens (special ones included), and the numbers of their labels.

    `path`: a CSV, JSONL or Parquet file, which is split by fractions; or a directory with such files named train, val
    and test, whose splits are kept, and where a missing val is cut from train. `hub_name`: a data set on the Hub.
    `tokenizer`: `word` for one made of the training split, of at most `vocabulary_size` words that occur `min_count`
    times or more; else a directory or a name on the Hub.

    Raises:
        InputError: if something cannot be read, or a label of val or test does not occur in train.
    """

    def split(table: Table, train_split: float) -> dict[str, Table]:
        strata = table.labels if stratify else None
        folds: dict[str, Any] = {"fold": fold, "num_folds": num_folds}
        rows = split_rows(len(table.texts), train_split, val_split, seed, strata=strata, **folds)
        return {name: table.take(rows[name]) for name in rows}

    tables, about = _read(path, hub_name, Columns(text_column, label_column))
    if "all" in tables:
        tables = split(tables["all"], train_split)
    elif fold is not None:
        raise InputError(f"data.fold: {about['name']} comes in splits already; put all rows into one file")
    elif "val" not in tables:
        others = {name: table for name, table in tables.items() if name != "train"}
        tables = split(tables["train"], 1 - val_split) | others
    label_names = _sort_names(set(tables["train"].labels))
    _check_labels(tables, label_names)
    processor = _make_tokenizer(tokenizer, tables["train"].texts, vocabulary_size, min_count, max_length)
    splits, num_cut = {}, {}
    for name, table in tables.items():
        token_ids, num_cut[name] = tokenize(processor, table.texts, max_length)
        numbers = [label_names.index(label) for label in table.labels]
        splits[name] = TextSplit(token_ids, numbers, processor.pad_token_id)
    caveats = [*about.pop("caveats", ()), *_caveats(tables, num_cut, max_length)]

    return Data(
        splits=splits,
        collate=partial(pad, padding_id=processor.pad_token_id),
        description=Description(
            task="text-classification",
            labels=tuple(label_names),
            caveats=tuple(caveats),
            fingerprints={name: fingerprint(table.texts, table.labels) for name, table in tables.items()},
            **about,
        ),
        facts={
            "num_labels": len(label_names),
            "label_names": label_names,
            "vocab_size": len(processor),
            "max_length": max_length,
            "pad_token_id": processor.pad_token_id,
        },
        processor=processor,
        baselines={"logistic regression on a bag of words": partial(_score_bag_of_words, tables)}
        if "test" in tables
        else {},
        usage=_USAGE.format(text=tables["train"].texts[0][:80], max_length=max_length),
    )


def _read(path: str | None, hub_name: str | None, columns: Columns) -> tuple[dict[str, Table], dict[str, Any]]:
    """Return the splits that are given, or `all`, and what is known about the data set."""
    if path is not None and hub_name is not None:
        raise InputError("data.path, data.hub_name: expected one of the two, got both")
    about: dict[str, Any]
    if hub_name is not None:
        tables = read_hub(hub_name, columns)
        about = {"name": hub_name, "source": f"https://huggingface.co/datasets/{hub_name.partition(':')[0]}"}
    elif path is not None:
        place = Path(path).expanduser()
        if place.is_dir():
            files = find_split_files(place, READERS)
            if "train" not in files:
                raise InputError(f"data.path: {place}: expected a file train.csv, train.jsonl or train.parquet there")
            tables = {name: read_table(file, columns) for name, file in files.items()}
        elif place.is_file():
            tables = {"all": read_table(place, columns)}
        else:
            raise InputError(f"data.path: there is no file or directory {path!r}")
        about = {"name": place.stem, "source": place.name}
    else:
        tables, about = {"all": _read_names()}, _ABOUT_NAMES
    return tables, dict(about)


_ABOUT_NAMES = {
    "name": "Unicode character names",
    "summary": "Names of characters, by their general category in Unicode: letter, digit, punctuation …",
    "source": unicode_names.SOURCE,
    "license": unicode_names.LICENSE,
    "language": "en",
    "caveats": (
        "Names have siblings (… LETTER A WITH GRAVE, … LETTER A WITH ACUTE), which a random split puts into both "
        "training and test: scores for the names of a new script would be lower.",
        f"Categories of fewer than {_MIN_NAMES_OF_CATEGORY} names are left out.",
    ),
}


def _read_names() -> Table:
    names = unicode_names.read_unicode_names()
    num_names = Counter(name.category for name in names)
    kept = [name for name in names if num_names[name.category] >= _MIN_NAMES_OF_CATEGORY]
    return Table([name.name for name in kept], [name.category for name in kept])


def _sort_names(labels: set[str]) -> list[str]:
    """Return the labels in the order of the alphabet, or of their values where all are whole numbers."""
    is_number = all(label.removeprefix("-").isdecimal() for label in labels)
    return sorted(labels, key=lambda label: (int(label) if is_number else 0, label))


def _check_labels(tables: Mapping[str, Table], label_names: Sequence[str]) -> None:
    if len(label_names) < 2:
        raise InputError(f"data.label_column: expected two labels or more in the training split, got {label_names}")
    for name, table in tables.items():
        unseen = sorted(set(table.labels) - set(label_names))
        if unseen:
            place = table.first_places.get(unseen[0])
            where = "" if place is None else f" ({place.removeprefix('data.path: ')})"
            raise InputError(
                f"data.label_column: {', '.join(map(repr, unseen[:5]))} in the {name} split{where} does not occur in "
                f"the training split; remove or merge rare labels, or give more rows to training"
            )


def _make_tokenizer(name: str, texts: Sequence[str], vocabulary_size: int, min_count: int, max_length: int) -> Any:
    if name == "word":
        return train_word_tokenizer(texts, vocabulary_size=vocabulary_size, min_count=min_count, max_length=max_length)
    from transformers.models.auto.tokenization_auto import AutoTokenizer

    advice = "give a local directory, or take one that needs no network: word, which model=bert_tiny has"
    tokenizer = load_pretrained(AutoTokenizer.from_pretrained, name, "model.tokenizer", advice)
    if len(tokenizer) <= len(tokenizer.all_special_tokens):  # what `transformers` makes of weights without a tokenizer
        raise InputError(f"model.tokenizer: {name!r} holds no vocabulary; {advice}")
    if tokenizer.pad_token_id is None:
        raise InputError(f"model.tokenizer: {name!r} has no padding token, so that texts cannot be put into batches")
    return tokenizer


def _caveats(tables: Mapping[str, Table], num_cut: Mapping[str, int], max_length: int) -> list[str]:
    caveats = []
    if any(num_cut.values()):
        counts = ", ".join(f"{num_cut[name]:,} of {len(table.texts):,} in {name}" for name, table in tables.items())
        caveats.append(f"Texts of more than {max_length} tokens were cut: {counts}.")
    train = tables["train"]
    num_again = len(train.texts) - len(set(train.texts))
    if num_again:
        num_other = len(set(zip(train.texts, train.labels, strict=True))) - len(set(train.texts))
        caveats.append(
            f"{num_again:,} of {len(train.texts):,} texts of the training split are there more than once"
            + (f", {num_other:,} with another label." if num_other else ".")
        )
    known = set(train.texts)
    for name, table in tables.items():
        num_known = sum(text in known for text in table.texts)
        if name != "train" and num_known:
            caveats.append(f"{num_known:,} of {len(table.texts):,} texts of the {name} split also occur in training.")
    return caveats


def _score_bag_of_words(tables: Mapping[str, Table]) -> dict[str, float]:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    train, test = tables["train"], tables["test"]
    model = make_pipeline(CountVectorizer(token_pattern=r"\w+"), LogisticRegression(C=10.0, max_iter=1000))
    return {"accuracy": float(model.fit(train.texts, train.labels).score(test.texts, test.labels))}
