"""Checks the `Data` that a user's function returned, and makes plain values of its facts and names."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from reprise.data import Data, describe_data
from reprise.errors import InputError
from reprise.files.plain_json import plain_json


def with_plain_facts(data: Data) -> Data:
    """Return `data` with NumPy's scalars, and tensors and arrays without dimensions, as Python's; names as texts.

    Raises:
        InputError: if a split that runs read is empty, or classes lack a name.
    """
    for split in ("train", "val", *(["test"] if "test" in data.splits else [])):
        if len(data.splits.get(split, ())) == 0:
            way_out = "; leave it out, and `val` is scored at the end" if split == "test" else ""
            raise InputError(f"data: the split {split!r} is empty{way_out}")
    facts = {name: _plain(value) for name, value in data.facts.items()}
    if isinstance(facts.get("label_names"), Mapping):  # a metric would take the numbers for the names
        raise InputError("data._target_: expected the fact `label_names` to be a list, in the order of the classes")
    if isinstance(facts.get("label_names"), list | tuple | np.ndarray):
        facts["label_names"] = [str(name) for name in _plain(list(facts["label_names"]))]
    labels = tuple(str(name) for name in _plain(list(data.description.labels or ())))
    num_labels = facts.get("num_labels")
    for what, names in (("fact `label_names`", facts.get("label_names")), ("description's `labels`", labels)):
        if names and isinstance(num_labels, int) and len(names) < num_labels:
            raise InputError(
                f"data._target_: expected a name for each of the {num_labels} classes (the fact `num_labels`), got "
                f"{len(names)} in the {what}"
            )
    plain = replace(data, facts=facts, description=replace(data.description, labels=labels))
    try:
        plain_json(describe_data(plain), "its description")
    except TypeError as error:
        raise InputError(f"data._target_: {error}") from error
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray | Tensor) and value.ndim == 0):
        return value.item()
    if type(value) in (list, tuple):
        return type(value)(map(_plain, value))
    if type(value) is dict:
        return {_plain(key): _plain(item) for key, item in value.items()}
    return value
