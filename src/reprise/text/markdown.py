"""Markdown from texts that are not trusted: nothing in a text can end its cell, code span or block."""

import re
import unicodedata
from collections.abc import Sequence


class Markdown(str):
    """Text that is Markdown already: it is not escaped again. What `str` methods and operators make of it is plain."""


_BIDIRECTIONAL_CONTROLS = {chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}
_PUNCTUATION = re.compile(r"[\\`*\[\]|~$]")
# Inside a word an underscore is only itself, as in vit_tiny.
_OUTER_UNDERSCORE = re.compile(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_CODE_SPAN = re.compile(r"(?<!`)`([^`|\\]+)`(?!`)")
_BLOCK_MARKER = re.compile(r"^(?:[#+=-]|\d{1,9}(?=[.)](?: |$)))")
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def one_line(text: object) -> str:
    """Return `text` on one line, without control characters and with single spaces."""
    visible = "".join(
        " " if character.isspace() else character if _is_visible(character) else "" for character in str(text)
    )
    return " ".join(visible.encode("utf-8", "replace").decode().split())


def escape(text: object) -> Markdown:
    """Return Markdown that shows `text` as it is, on one line; not for the beginning of a line, see `escape_block`."""
    if isinstance(text, Markdown):
        return text
    escaped = _PUNCTUATION.sub(r"\\\g<0>", one_line(text))
    return Markdown(_OUTER_UNDERSCORE.sub(r"\\_", escaped).translate(_ENTITIES))


def escape_block(text: object) -> Markdown:
    """Return Markdown that shows `text` as it is, wherever it is put; a space at either end is kept."""
    if isinstance(text, Markdown):
        return text
    plain = str(text)
    escaped = _BLOCK_MARKER.sub(_escape_marker, escape(plain))
    return Markdown(f"{' ' * plain.startswith(' ')}{escaped}{' ' * plain.endswith(' ')}")


def code(text: object) -> Markdown:
    """Return `text` as a code span, or as plain text where it could end the span."""
    line = one_line(text)
    if not line:
        return Markdown("(empty)")
    return escape_block(line) if re.search(r"[`|\\]", line) else Markdown(f"`{line}`")


def prose(text: object) -> Markdown:
    """Return `text` on one line, with its `code` kept and everything else escaped."""
    if isinstance(text, Markdown):
        return text
    parts = _CODE_SPAN.split(one_line(text))
    kept = "".join(code(part) if index % 2 else _escape_part(part) for index, part in enumerate(parts))
    return Markdown(_BLOCK_MARKER.sub(_escape_marker, kept))


def paragraphs(text: str) -> Markdown:
    """Return `text` with its paragraphs, its lists of `- ` lines and its `code` kept, and everything else escaped."""
    blocks = []
    for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n").strip()):
        lines = [line.strip() for line in block.splitlines() if line.strip()]
        if lines and all(line.startswith("- ") for line in lines):
            blocks.append(bullets([line[2:] for line in lines]))
        else:
            blocks.append(prose(" ".join(lines)))
    return Markdown("\n\n".join(block for block in blocks if block))


def bullets(items: Sequence[object]) -> Markdown:
    """Return a list; each item is `prose`."""
    return Markdown("\n".join(f"- {prose(item)}" for item in items))


def fenced(text: str, language: str = "") -> Markdown:
    """Return `text` as a block of code whose fence is longer than any in it."""
    lines = text.encode("utf-8", "replace").decode().replace("\r\n", "\n").strip("\n").split("\n")
    cleaned = "\n".join("".join(c for c in line if c == "\t" or _is_visible(c)) for line in lines)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", cleaned)), default=0))
    return Markdown(f"{fence}{language}\n{cleaned}\n{fence}")


def filled(template: str, *values: object) -> Markdown:
    """Return a Markdown template with each `{}` replaced by a value that is escaped."""
    return Markdown(template.format(*map(escape, values)))


def table(header: Sequence[object], rows: Sequence[Sequence[object]], alignment: str = "") -> Markdown:
    """Return a table, its cells escaped; `alignment` has `l` or `r` for each column."""
    alignment = alignment.ljust(len(header), "l")
    cells = [[escape(cell) for cell in row] for row in (header, *rows)]
    assert all(len(row) == len(header) for row in cells), "every row of a table has a cell for each column"
    widths = [max(3, *(_width(row[column]) for row in cells)) for column in range(len(header))]

    def line(row: Sequence[str]) -> str:
        padded = []
        for cell, width, side in zip(row, widths, alignment, strict=True):
            space = " " * (width - _width(cell))
            padded.append(space + cell if side == "r" else cell + space)
        return f"| {' | '.join(padded)} |"

    rule = ["-" * (width - 1) + (":" if side == "r" else "-") for width, side in zip(widths, alignment, strict=True)]
    return Markdown("\n".join([line(cells[0]), line(rule), *(line(row) for row in cells[1:])]))


def aligned(text: str) -> Markdown:
    """Return a table that is Markdown already with its columns padded to equal width.

    Raises:
        ValueError: if it is no table, or a row has fewer or more cells than the header.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    rows = [[Markdown(cell.strip()) for cell in _CELL_END.split(line)[1:-1]] for line in lines]
    if len(rows) < 2 or not all(re.fullmatch(r"-+:?", cell) for cell in rows[1]):
        raise ValueError("expected a table: a header, a line such as `| --- | ---: |`, and rows")
    for number, row in enumerate(rows, 1):
        if len(row) != len(rows[0]):
            raise ValueError(f"line {number} of a table has {len(row)} cells, its header has {len(rows[0])}")
    return table(rows[0], rows[2:], "".join("r" if cell.endswith(":") else "l" for cell in rows[1]))


_CELL_END = re.compile(r"(?<!\\)\|")


def _escape_part(text: str) -> str:
    """Return a part of a line escaped, with the spaces at its ends kept."""
    inner = text.strip(" ")
    return text.replace(inner, escape(inner)) if inner else text


def _escape_marker(match: re.Match[str]) -> str:
    marker = match.group()
    return f"{marker}\\" if marker[0].isdigit() else f"\\{marker}"


def _is_visible(character: str) -> bool:
    return unicodedata.category(character) != "Cc" and character not in _BIDIRECTIONAL_CONTROLS


def _width(text: str) -> int:
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )
