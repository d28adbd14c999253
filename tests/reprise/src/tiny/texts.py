"""Small texts drawn from addressed randomness: with labels, and as one text to be continued character by character."""

from functools import partial
from typing import Annotated, Any

import numpy as np
import torch

from reprise.config import Fraction, PositiveInt, Range
from reprise.data import Batch, Data, Description, TensorSplit, fingerprint, stack
from reprise.data.splitting import split_rows
from reprise.data.tokenization import make_character_tokenizer, train_word_tokenizer
from reprise.data.tokenized_texts import TextSplit, pad, tokenize
from reprise.models import evaluating
from reprise.randomness import numpy_generator

_TOPICS = {"animals": "cat dog cow owl fox hen".split(), "colours": "red blue pink grey gold teal".split()}
_USAGE = """\
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(directory)
batch = tokenizer([{text!r}], return_tensors="pt")"""


def load_texts(
    *,
    num_texts: PositiveInt = 240,
    tokenizer: str,
    max_length: Annotated[int, Range(min=3)],
    train_split: Annotated[float, Range(above=0, max=1)],
    val_split: Fraction,
    seed: int,
) -> Data:
    """Return texts of two to six words, and which of two topics they are about; `tokenizer` is `word`."""
    generator = numpy_generator("tiny texts")
    names = list(_TOPICS)
    labels = generator.integers(0, 2, num_texts)
    texts = [" ".join(generator.choice(_TOPICS[names[k]], generator.integers(2, 7))) for k in labels]
    rows = split_rows(num_texts, train_split, val_split, seed)
    training_texts = [texts[row] for row in rows["train"]]
    processor = train_word_tokenizer(training_texts, vocabulary_size=50, min_count=1, max_length=max_length)
    splits = {
        name: TextSplit(
            tokenize(processor, [texts[row] for row in chosen], max_length)[0],
            labels[chosen].tolist(),
            processor.pad_token_id,
        )
        for name, chosen in rows.items()
    }
    return Data(
        splits=splits,
        collate=partial(pad, padding_id=processor.pad_token_id),
        description=Description(
            name="tiny texts",
            task="text-classification",
            language="en",
            labels=tuple(names),
            fingerprints={name: fingerprint([texts[row] for row in chosen]) for name, chosen in rows.items()},
        ),
        facts={
            "num_labels": 2,
            "label_names": names,
            "vocab_size": len(processor),
            "max_length": max_length,
            "pad_token_id": processor.pad_token_id,
        },
        processor=processor,
        usage=_USAGE.format(text=training_texts[0]),
    )


def load_characters(
    *,
    num_windows: PositiveInt = 120,
    context_length: Annotated[int, Range(min=2)],
    train_split: Annotated[float, Range(above=0, max=1)],
    val_split: Fraction,
    seed: int,
) -> Data:
    """Return windows of `context_length` characters of words, and a function that has a model continue a text."""
    words = numpy_generator("tiny characters").choice(_TOPICS["animals"], num_windows * context_length)
    text = "\n".join(words)
    characters = sorted(set(text))
    processor = make_character_tokenizer("".join(characters), max_length=context_length)
    ids = torch.tensor([1 + characters.index(character) for character in text[: num_windows * context_length]])
    windows = ids.view(num_windows, context_length)  # (N, T)
    rows = split_rows(num_windows, train_split, val_split, seed)
    splits = {
        name: TensorSplit({"input_ids": windows[chosen], "labels": windows[chosen]}) for name, chosen in rows.items()
    }
    return Data(
        splits=splits,
        collate=stack,
        description=Description(
            name="tiny characters",
            task="text-generation",
            language="en",
            fingerprints={name: fingerprint(split.columns["input_ids"]) for name, split in splits.items()},
        ),
        facts={
            "vocab_size": len(processor),
            "context_length": context_length,
            "character_starts": torch.ones(len(processor), dtype=torch.bool),
        },
        processor=processor,
        count_items=_count_predicted,
        usage=_USAGE.format(text="cat"),
        generate=partial(_continue, processor, context_length),
    )


def _count_predicted(batch: Batch) -> int:
    return int(batch["labels"][:, 1:].numel())


def _continue(processor: Any, context_length: int, model: torch.nn.Module, seed: int) -> list[str]:
    """Return one text: the likeliest character after each of `cat`."""
    with evaluating(model):
        prompt = torch.tensor([processor("cat")["input_ids"]], device=next(model.parameters()).device)
        logits = model(input_ids=prompt).logits[0]  # (T, V)
    return [processor.decode(np.asarray(logits.argmax(-1).cpu()).tolist())]
