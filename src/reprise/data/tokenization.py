"""Tokenizers that are made here, of training text alone. Each loads from an export with `AutoTokenizer`."""

from collections.abc import Iterable
from typing import Any

UNKNOWN_CHARACTER = "\N{REPLACEMENT CHARACTER}"


def train_word_tokenizer(texts: Iterable[str], *, vocabulary_size: int, min_count: int, max_length: int) -> Any:
    """Return a tokenizer of lower-cased words and punctuation, framed as BERT expects: `[CLS] … [SEP]`.

    The vocabulary holds the most frequent words, those that occur `min_count` times or more; equally frequent ones
    in the order of the alphabet, so that it does not depend on the order of `texts` or on the process.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = Tokenizer(models.WordLevel(unk_token=special["unk_token"]))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(
        vocab_size=vocabulary_size,
        min_frequency=min_count,
        special_tokens=list(special.values()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    return _wrap(tokenizer, max_length, **special)


def make_character_tokenizer(characters: str, *, max_length: int) -> Any:
    """Return a tokenizer of single characters: from 1 on those of `characters`, in their order; 0 for any other."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    # One character as the unknown token, so that no longer text can be mistaken for it.
    vocabulary = {character: number for number, character in enumerate(UNKNOWN_CHARACTER + characters)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN_CHARACTER))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("(?m)."), "isolated")  # (?m): the dot takes line ends, too
    tokenizer.decoder = decoders.Fuse()
    return _wrap(tokenizer, max_length, unk_token=UNKNOWN_CHARACTER)


def make_byte_tokenizer(*, max_length: int) -> Any:
    """Return a tokenizer of the bytes of UTF-8; each token's number is the byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    # In files of `tokenizers` every byte has a visible character: its own where that is visible, or one beyond 255,
    # given out in the order of the bytes.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    beyond = iter([character for character in alphabet if ord(character) > 255])
    vocabulary = {chr(byte) if chr(byte) in alphabet else next(beyond): byte for byte in range(256)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return _wrap(tokenizer, max_length)


def _wrap(tokenizer: Any, max_length: int, **special_tokens: str) -> Any:
    from transformers.tokenization_utils_tokenizers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        **special_tokens,
    )
