"""The names of the characters of Unicode 3.2, which ship inside Python: real text that needs no network."""

import sys
import unicodedata
from dataclasses import dataclass

SOURCE = "Python's `unicodedata.ucd_3_2_0`, the Unicode Character Database 3.2.0"
LICENSE = "Unicode-DFS-2016"

# These names are made of a number or of the parts of a syllable: nothing that could be learned.
_ALGORITHMIC = ("CJK UNIFIED IDEOGRAPH-", "CJK COMPATIBILITY IDEOGRAPH-", "HANGUL SYLLABLE ")


@dataclass(frozen=True)
class UnicodeName:
    """A character's name, such as LATIN SMALL LETTER A, and its general category, such as Ll."""

    name: str
    category: str


def read_unicode_names() -> list[UnicodeName]:
    """Return the 12,886 names that are not algorithmic, all different, in the order of their code points.

    Python keeps this version of the database for IDNA (RFC 3490), so it is the same in every version of Python.
    """
    database = unicodedata.ucd_3_2_0
    names = ((database.name(character, ""), character) for character in map(chr, range(sys.maxunicode + 1)))
    return [
        UnicodeName(name, database.category(character))
        for name, character in names
        if name and not name.startswith(_ALGORITHMIC)
    ]
