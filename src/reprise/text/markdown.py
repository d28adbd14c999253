"""Builds pieces of Markdown from texts that are not trusted: nothing in a text can end its cell, span or block."""

import re
import unicodedata
from collections.abc import Sequence

_BIDIRECTIONAL_CONTROLS = {chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}
_PUNCTUATION = re.compile(r"[\\`*\[\]|~$]")
# Inside a word an underscore is only itself, as in vit_tiny.
_OUTER_UNDERSCORE = re.compile(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_CODE_SPAN = re.compile(r"(?<!`)`([^`|\\]+)`(?!`)")
_LINE_START = re.compile(r"^(?:[#+=-]|\d{1,9}(?=[.)]))")
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def one_line(text: object) -> str:
    """Return `text` on one line, without control characters and with single spaces."""
    visible = "".join(
        " " if character.isspace() else character if _is_visible(character) else "" for character in str(text)
    )
    return " ".join(visible.encode("utf-8", "replace").decode().split())


def escape(text: object) -> str:
    """Return `text` as Markdown that shows it as it is, on one line and not at its beginning."""
    escaped = _PUNCTUATION.sub(r"\\\g<0>", one_line(text))
    return _OUTER_UNDERSCORE.sub(r"\\_", escaped).translate(_ENTITIES)


def code(text: object) -> str:
    """Return `text` as a code span, or as plain text where a span could be broken out of."""
    line = one_line(text)
    if not line:
        return "(empty)"
    return escape(line) if re.search(r"[`|\\]", line) else f"`{line}`"


def prose(text: object) -> str:
    """Return `text` on one line, with its `code` kept and everything else escaped."""
    parts = _CODE_SPAN.split(one_line(text))
    kept = "".join(code(part) if index % 2 else _escape_part(part) for index, part in enumerate(parts))
    return _LINE_START.sub(_escape_line_start, kept)


def paragraphs(text: str) -> str:
    """Return `text` with its paragraphs, its lists of `- ` lines and its `code` kept, and everything else escaped."""
    blocks = []
    for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n").strip()):
        lines = [line.strip() for line in block.splitlines() if line.strip()]
        if lines and all(line.startswith("- ") for line in lines):
            blocks.append(bullets([prose(line[2:]) for line in lines]))
        else:
            blocks.append(prose(" ".join(lines)))
    return "\n\n".join(block for block in blocks if block)


def bullets(items: Sequence[str]) -> str:
    """Return a list of items that are Markdown already."""
    return "\n".join(f"- {item}" for item in items)


def image(description: str, path: str) -> str:
    """Return a picture on a line of its own; the path is one of ours."""
    return f"![{escape(description)}]({path})"


def fenced(text: str, language: str = "") -> str:
    """Return `text` as a block of code whose fence is longer than any in it."""
    lines = text.encode("utf-8", "replace").decode().replace("\r\n", "\n").strip("\n").split("\n")
    cleaned = "\n".join("".join(c for c in line if c == "\t" or _is_visible(c)) for line in lines)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", cleaned)), default=0))
    return f"{fence}{language}\n{cleaned}\n{fence}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], alignment: str = "") -> str:
    """Return a table of cells that are Markdown already; `alignment` has `l` or `r` for each column."""
    alignment = alignment.ljust(len(header), "l")
    cells = [list(header), *(list(row) for row in rows)]
    assert all(len(row) == len(header) for row in cells), "every row of a table has a cell for each column"
    widths = [max(3, *(_width(row[column]) for row in cells)) for column in range(len(header))]

    def line(row: Sequence[str]) -> str:
        padded = []
        for cell, width, side in zip(row, widths, alignment, strict=True):
            space = " " * (width - _width(cell))
            padded.append(space + cell if side == "r" else cell + space)
        return f"| {' | '.join(padded)} |"

    rule = ["-" * (width - 1) + (":" if side == "r" else "-") for width, side in zip(widths, alignment, strict=True)]
    return "\n".join([line(cells[0]), line(rule), *(line(row) for row in cells[1:])])


def _escape_part(text: str) -> str:
    """Return a part of a line escaped, with the spaces at its ends kept."""
    inner = text.strip(" ")
    return text.replace(inner, escape(inner)) if inner else text


def _escape_line_start(match: re.Match[str]) -> str:
    start = match.group()
    return f"{start}\\" if start[0].isdigit() else f"\\{start}"


def _is_visible(character: str) -> bool:
    return unicodedata.category(character) != "Cc" and character not in _BIDIRECTIONAL_CONTROLS


def _width(text: str) -> int:
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )
