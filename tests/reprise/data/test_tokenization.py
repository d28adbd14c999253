import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reprise.data.tokenization import make_byte_tokenizer, make_character_tokenizer, train_word_tokenizer
from reprise.data.tokenized_texts import TextSplit, pad, tokenize

TEXTS = [f"{'good' if number % 2 else 'bad'} film number {number}, indeed" for number in range(40)]
TEXT = "".join(f"Line {number}: größer als ein Byte, 😀 und\ttab.\n" for number in range(20))


def words(texts: list[str], vocabulary_size: int = 100) -> Any:
    return train_word_tokenizer(texts, vocabulary_size=vocabulary_size, min_count=1, max_length=16)


def test_vocabulary_does_not_depend_on_the_process() -> None:
    code = (
        "from reprise.data.tokenization import train_word_tokenizer as train;"
        f"tokenizer = train({TEXTS!r}, vocabulary_size=100, min_count=1, max_length=16);"
        "print(tokenizer.backend_tokenizer.to_str())"
    )
    environment = os.environ | {"PYTHONHASHSEED": "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"}
    output = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    assert output.stdout.strip() == words(TEXTS).backend_tokenizer.to_str()


def test_vocabulary_does_not_depend_on_the_order_of_texts() -> None:
    vocabularies = [words(texts, vocabulary_size=20).get_vocab() for texts in (TEXTS, TEXTS[::-1])]
    assert vocabularies[0] == vocabularies[1]
    assert len(vocabularies[0]) == 20


def test_rare_words_are_unknown() -> None:
    tokenizer = train_word_tokenizer(["often often rare"], vocabulary_size=100, min_count=2, max_length=16)
    assert tokenizer.convert_ids_to_tokens(tokenizer("Often rare")["input_ids"]) == ["[CLS]", "often", "[UNK]", "[SEP]"]


def test_word_tokenizer_loads_from_an_export(tmp_path: Path) -> None:
    from transformers import AutoTokenizer, BertConfig

    tokenizer = words(TEXTS)
    tokenizer.save_pretrained(tmp_path)
    BertConfig().save_pretrained(tmp_path)  # a model's config lies there, too
    loaded = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    for text in (TEXTS[3], "good-bad unheardof"):
        assert loaded(text).data == tokenizer(text).data
    assert loaded(TEXTS[3]).data.keys() == {"input_ids", "attention_mask"}


@pytest.mark.parametrize("kind", ["characters", "bytes"])
def test_tokenizers_of_characters_and_bytes_load_from_an_export(tmp_path: Path, kind: str) -> None:
    from transformers import AutoTokenizer, GPT2Config

    characters = "".join(sorted(set(TEXT)))
    tokenizer = (
        make_byte_tokenizer(max_length=16) if kind == "bytes" else make_character_tokenizer(characters, max_length=16)
    )
    ids = tokenizer(TEXT)["input_ids"]
    assert ids == (list(TEXT.encode()) if kind == "bytes" else [1 + characters.index(one) for one in TEXT])
    tokenizer.save_pretrained(tmp_path)
    GPT2Config().save_pretrained(tmp_path)  # a model's config lies there, too
    loaded = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert loaded(TEXT)["input_ids"] == ids
    assert loaded.decode(ids) == TEXT


def test_a_character_that_is_not_in_the_vocabulary_is_token_0() -> None:
    tokenizer = make_character_tokenizer("abc", max_length=16)
    assert tokenizer.get_vocab() == {"\N{REPLACEMENT CHARACTER}": 0, "a": 1, "b": 2, "c": 3}
    assert tokenizer("axc")["input_ids"] == [1, 0, 3]


def test_long_texts_are_cut_behind_their_last_word_and_counted() -> None:
    texts = [*TEXTS, "one two three four five six"]
    tokenizer = words(texts)
    ids, num_cut = tokenize(tokenizer, texts, 8)
    assert (num_cut, len(ids[-1])) == (0, 8)
    ids, num_cut = tokenize(tokenizer, texts, 7)
    assert (num_cut, {len(row) for row in ids}) == (41, {7})
    assert tokenizer.convert_ids_to_tokens(ids[-1])[-1] == "[SEP]"


def test_batch_is_padded_to_its_longest_text() -> None:
    tokenizer = words(TEXTS)
    texts = ["good", "good film", "bad film number 3", "indeed", "bad"]
    split = TextSplit(tokenize(tokenizer, texts, 16)[0], [1, 1, 0, 1, 0], tokenizer.pad_token_id)
    indices = np.array([3, 0, 2, 1])
    batch = split.get_batch(indices, None)
    lengths = [len(split[index]["input_ids"]) for index in indices]
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (4, max(lengths))
    assert batch["attention_mask"].sum(1).tolist() == lengths
    assert batch["labels"].tolist() == [1, 1, 0, 1]
    collated = pad([split[index] for index in indices], tokenizer.pad_token_id)
    assert batch.keys() == collated.keys()
    assert all(torch.equal(batch[name], collated[name]) for name in batch)
