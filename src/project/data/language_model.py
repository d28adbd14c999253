"""Text to be continued, token by token: text files of one's own or, without any, names of Unicode characters."""

import lzma
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from project.data import unicode_names
from reprise.config import Fraction, NonNegativeInt, PositiveInt, Range
from reprise.data import Batch, Data, Description, fingerprint, stack
from reprise.data.split_files import find_split_files
from reprise.data.splitting import split_rows, split_text
from reprise.data.tokenization import UNKNOWN_CHARACTER, make_byte_tokenizer, make_character_tokenizer
from reprise.errors import InputError
from reprise.models import evaluating

_USAGE = """\
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(directory)
batch = tokenizer([{text!r}], return_tensors="pt")"""

Tokens = NDArray[np.int32]

_XZ_WINDOW = 8 * 2**20  # bytes: how far back xz looks


def load_language_model(
    *,
    path: str | None = None,
    tokenizer: Literal["characters", "bytes"],
    context_length: Annotated[int, Range(min=2)],
    train_split: Annotated[float, Range(above=0, max=1)],
    val_split: Fraction,
    fold: NonNegativeInt | None = None,
    num_folds: PositiveInt = 5,
    seed: int,
) -> Data:
    """Return windows of `context_length` tokens; each overlaps the one before by one token, which is only read there.

    So every token of a split but its first is predicted exactly once. `path`: a text file, or a directory, whose
    files are taken one after another in the order of their names. The text is cut into contiguous portions: windows
    drawn at random would have their neighbours, and so the same sentences, in another split. Files named train, val
    and test are kept as splits. `characters` takes its vocabulary from the training split.

    Raises:
        InputError: if a file cannot be read, or a split would hold less than two characters.
    """
    if path is None:
        names = [name.name for name in unicode_names.read_unicode_names()]
        rows = split_rows(len(names), train_split, val_split, seed, fold=fold, num_folds=num_folds)
        texts = {split: "".join(f"{names[row]}\n" for row in indices) for split, indices in rows.items()}
        about = dict(_ABOUT_NAMES)
    else:
        texts, about = _read(path)
        if "all" in texts:
            texts = split_text(texts["all"], train_split, val_split, fold=fold, num_folds=num_folds)
        elif fold is not None:
            raise InputError(f"data.fold: {path} comes in splits already; put all text into one file")
        elif "val" not in texts:
            others = {name: text for name, text in texts.items() if name != "train"}
            texts = split_text(texts["train"], 1 - val_split, val_split) | others
    caveats = list(about.pop("caveats", ()))
    for name, text in texts.items():
        if len(text) < 2:
            raise InputError(f"data.path: the {name} split holds {len(text)} characters; expected 2 or more")
    if tokenizer == "bytes":
        processor = make_byte_tokenizer(max_length=context_length)
        tokens = {name: np.frombuffer(text.encode(), np.uint8).astype(np.int32) for name, text in texts.items()}
        character_starts = torch.tensor([byte & 0b1100_0000 != 0b1000_0000 for byte in range(256)])
    else:
        vocabulary = np.setdiff1d(_code_points(texts["train"]), [ord(UNKNOWN_CHARACTER)])
        processor = make_character_tokenizer("".join(map(chr, vocabulary.tolist())), max_length=context_length)
        tokens = {name: _number(_code_points(text), vocabulary) for name, text in texts.items()}
        character_starts = torch.ones(len(processor), dtype=torch.bool)
        caveats += _count_unknown(tokens)

    prompt = "\n" if "\n" in texts["train"] else texts["train"][0]
    return Data(
        splits={name: WindowSplit(ids, context_length) for name, ids in tokens.items()},
        collate=stack,
        description=Description(
            task="text-generation",
            caveats=tuple(caveats),
            fingerprints={name: fingerprint(text) for name, text in texts.items()},
            **about,
        ),
        facts={"vocab_size": len(processor), "context_length": context_length, "character_starts": character_starts},
        processor=processor,
        count_items=_count_predicted,
        baselines={
            "frequencies of single tokens": partial(_score_unigram, tokens, character_starts),
            "xz, after the training text": partial(_score_xz, texts),
        }
        if "test" in texts
        else {},
        usage=_USAGE.format(text=texts["train"][: min(20, context_length)]),
        generate=partial(_generate, processor, prompt, context_length, only_first_line=path is None),
    )


class WindowSplit:
    """Windows of one array of tokens; what the last one lacks is filled up and not predicted (label -100)."""

    def __init__(self, tokens: Tokens, context_length: int) -> None:
        self._tokens = tokens
        self._context_length = context_length
        self._stride = context_length - 1  # one token is shared: the last to be predicted is the next to be read

    def __len__(self) -> int:
        return -(-(len(self._tokens) - 1) // self._stride)

    def __getitem__(self, index: int) -> Batch:
        return {name: rows[0] for name, rows in self.get_batch(np.array([index]), None).items()}

    def get_batch(self, indices: NDArray[np.int64], draws: Any) -> Batch:
        """Return `input_ids` and `labels`, (B, `context_length`) each; the model shifts the labels by one token."""
        positions = indices[:, None] * self._stride + np.arange(self._context_length)  # (B, T)
        is_token = positions < len(self._tokens)
        ids = self._tokens[np.where(is_token, positions, 0)].astype(np.int64)
        # No mask is needed: no token looks ahead at what fills the window up.
        return {"input_ids": torch.from_numpy(ids), "labels": torch.from_numpy(np.where(is_token, ids, -100))}


def _count_predicted(batch: Batch) -> int:
    return int((batch["labels"][:, 1:] != -100).sum())


_ABOUT_NAMES: dict[str, Any] = {
    "name": "Unicode character names",
    "summary": "Names of characters, one a line, in random order.",
    "source": unicode_names.SOURCE,
    "license": unicode_names.LICENSE,
    "language": "en",
    "caveats": (
        "Names have siblings (… LETTER A WITH GRAVE, … LETTER A WITH ACUTE), which a random split puts into both "
        "training and test: names of a new script would take more bits.",
    ),
}


def _read(path: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the texts of the splits that are given, or of `all`, and what is known about them."""
    place = Path(path).expanduser()
    about = {"name": place.stem, "source": place.name}
    if place.is_dir():
        given = find_split_files(place)
        if "train" in given:
            return {name: _read_text(file) for name, file in given.items()}, about
        files = sorted(file for file in place.rglob("*") if file.is_file() and not file.name.startswith("."))
        if not files:
            raise InputError(f"data.path: the directory {path!r} holds no files")
        return {"all": "".join(map(_read_text, files))}, about
    if not place.is_file():
        raise InputError(f"data.path: there is no file or directory {path!r}")
    return {"all": _read_text(place)}, about


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"data.path: {path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"data.path: {path}: expected text in UTF-8, found the byte 0x{error.object[error.start]:02x} "
            f"at position {error.start}"
        ) from None


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le"), dtype="<u4")


def _number(code_points: NDArray[np.uint32], vocabulary: NDArray[np.uint32]) -> Tokens:
    """Return what the tokenizer would: 1 + place in the sorted vocabulary, or 0; a hundred times as fast."""
    places = np.searchsorted(vocabulary, code_points).clip(max=len(vocabulary) - 1)
    return np.where(vocabulary[places] == code_points, places + 1, 0).astype(np.int32)


def _count_unknown(tokens: Mapping[str, Tokens]) -> list[str]:
    counts = {name: int((ids == 0).sum()) for name, ids in tokens.items() if name != "train"}
    return [
        f"{count:,} of {len(tokens[name]):,} characters of the {name} split do not occur in training and count as one "
        f"unknown character."
        for name, count in counts.items()
        if count
    ]


def _score_unigram(tokens: Mapping[str, Tokens], character_starts: Tensor) -> dict[str, float]:
    """Score frequencies in training, each count one higher, so that none is 0."""
    counts = np.bincount(tokens["train"], minlength=len(character_starts)) + 1.0
    bits = -np.log2(counts / counts.sum())
    predicted = tokens["test"][1:]
    return {
        "perplexity": float(2 ** bits[predicted].mean()),
        "bits_per_character": float(bits[predicted].sum() / character_starts.numpy()[predicted].sum()),
    }


def _score_xz(texts: Mapping[str, str]) -> dict[str, float]:
    """Score a compressor that has seen the training text: by how much the test split makes the file longer."""
    seen, test = texts["train"].encode()[-_XZ_WINDOW:], texts["test"]
    num_bytes = len(lzma.compress(seen + test.encode())) - len(lzma.compress(seen))
    return {"bits_per_character": 8 * num_bytes / len(test)}


def _generate(
    tokenizer: Any,
    prompt: str,
    context_length: int,
    model: nn.Module,
    seed: int,
    *,
    only_first_line: bool,
    num_samples: int = 8,
    temperature: float = 0.8,
) -> Sequence[str]:
    """Return texts that the model writes after `prompt`; the global generators are neither used nor moved."""
    generator = torch.Generator().manual_seed(seed)  # on the CPU: the same draws on every device
    device = next(model.parameters()).device
    prompt_ids = tokenizer(prompt)["input_ids"][: context_length - 1]
    ids = torch.zeros(num_samples, context_length, dtype=torch.long, device=device)  # full length: one shape to compile
    ids[:, : len(prompt_ids)] = torch.tensor(prompt_ids, device=device)
    with evaluating(model):
        for position in range(len(prompt_ids), context_length):
            logits = model(input_ids=ids).logits[:, position - 1].float().cpu()  # (samples, V)
            drawn = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)
            ids[:, position] = drawn[:, 0].to(device)
    texts = [tokenizer.decode(row[len(prompt_ids) :]) for row in ids.cpu().tolist()]
    return [text.split("\n")[0] if only_first_line else text for text in texts]
