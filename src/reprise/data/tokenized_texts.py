"""Texts as token ids: cut to a length, held in one array, and padded batch by batch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils.rnn import pad_sequence

from reprise.data import Batch

_TOKENIZED_AT_ONCE = 10_000  # texts; bounds the memory that the tokenizer's own objects take


def tokenize(tokenizer: Any, texts: Sequence[str], max_length: int) -> tuple[list[list[int]], int]:
    """Return the token ids of each text, and how many texts had to be cut."""
    token_ids: list[list[int]] = []
    for start in range(0, len(texts), _TOKENIZED_AT_ONCE):
        some = list(texts[start : start + _TOKENIZED_AT_ONCE])
        # With room for one token more than allowed: what fills it has to be cut.
        token_ids += tokenizer(some, truncation=True, max_length=max_length + 1)["input_ids"]
    too_long = [index for index, ids in enumerate(token_ids) if len(ids) > max_length]
    for index in too_long:
        token_ids[index] = tokenizer(texts[index], truncation=True, max_length=max_length)["input_ids"]
    return token_ids, len(too_long)


class TextSplit:
    """Token ids of texts, one text after another in one array, with the number of each text's label."""

    def __init__(self, token_ids: Sequence[Sequence[int]], labels: Sequence[int], padding_id: int) -> None:
        self._offsets = np.concatenate([[0], np.cumsum([len(ids) for ids in token_ids])])  # (N + 1,)
        self._token_ids = np.fromiter((i for ids in token_ids for i in ids), dtype=np.int32, count=self._offsets[-1])
        self.labels = torch.tensor(labels)  # (N,)
        self._padding_id = padding_id

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Batch:
        ids = self._token_ids[self._offsets[index] : self._offsets[index + 1]]
        return {"input_ids": torch.from_numpy(ids).long(), "labels": self.labels[index]}

    def get_batch(self, indices: NDArray[np.int64], draws: Any) -> Batch:
        """Return `input_ids` and `attention_mask` (B, longest text of the batch), and `labels` (B,)."""
        starts, ends = self._offsets[indices], self._offsets[indices + 1]
        positions = starts[:, None] + np.arange((ends - starts).max())  # (B, T)
        is_token = positions < ends[:, None]
        ids = np.where(is_token, self._token_ids[np.where(is_token, positions, 0)], self._padding_id)
        return {
            "input_ids": torch.from_numpy(ids).long(),
            "attention_mask": torch.from_numpy(is_token).long(),
            "labels": self.labels[torch.from_numpy(indices)],
        }


def pad(samples: list[Batch], padding_id: int) -> Batch:
    """Collate samples of a `TextSplit`, as its `get_batch` does."""
    ids = [sample["input_ids"] for sample in samples]
    return {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=padding_id),
        "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
        "labels": torch.stack([sample["labels"] for sample in samples]),
    }
