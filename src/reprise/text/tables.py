"""Renders tables and sentences for a terminal, as CSV, Markdown or LaTeX; nothing in a text can leave its cell."""

import csv
import io
import itertools
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reprise.text import markdown
from reprise.text.markdown import one_line


@dataclass(frozen=True)
class TableBlock:
    """Cells of plain text."""

    title: str
    """Empty for none."""
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    alignment: str
    """`l` or `r` for each column."""


Block = TableBlock | str
"""A table or a paragraph."""


def as_text(blocks: Sequence[Block], width: int | None = None) -> str:
    """Return blocks for a terminal of `width` columns; a table that is too wide goes on below, with its first column.

    Without a width every row and every paragraph stays on one line.
    """
    return "\n\n".join(_wrapped(b, width) if isinstance(b, str) else _text_table(b, width) for b in blocks) + "\n"


def as_markdown(blocks: Sequence[Block]) -> str:
    texts: list[str] = []
    for block in blocks:
        if isinstance(block, str):
            texts.append(markdown.prose(block))
            continue
        rows = [[markdown.escape(cell) for cell in row] for row in block.rows]
        texts += [f"**{markdown.escape(block.title)}**"] if block.title else []
        texts.append(markdown.table([markdown.escape(name) for name in block.header], rows, block.alignment))
    return "\n\n".join(texts) + "\n"


def as_latex(blocks: Sequence[Block]) -> str:
    """Return blocks for a document that uses the package booktabs."""
    return "\n\n".join(escape_latex(b) if isinstance(b, str) else _latex_table(b) for b in blocks) + "\n"


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows with the same keys as comma-separated values; None is an empty cell, a number has all its digits.

    A text that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    for row in [list(rows[0])] + [list(row.values()) for row in rows] if rows else []:
        writer.writerow([_harmless(cell) for cell in row])
    return file.getvalue()


def escape_latex(text: object) -> str:
    """Return `text` as LaTeX that prints it as it is, on one line."""
    escaped = "".join(_LATEX.get(character, character) for character in one_line(text))
    return _LATEX_LIGATURE.sub(r"\g<0>{}", escaped)


_LATEX = {
    **{character: f"\\{character}" for character in "#$%&_{}"},
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # at the beginning of a row it would be an argument of the \\ before it
    "]": "{]}",
    "*": "{*}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": r"\textendash{}",
}
_LATEX_LIGATURE = re.compile(r"[-,'`?!](?=[-,'`])")


def _latex_table(table: TableBlock) -> str:
    lines = [rf"\begin{{tabular}}{{{table.alignment}}}", r"\toprule", _latex_row(table.header), r"\midrule"]
    lines += [*(_latex_row(row) for row in table.rows), r"\bottomrule", r"\end{tabular}"]
    title = [rf"\textbf{{{escape_latex(table.title)}}}", ""] if table.title else []
    return "\n".join([*title, *lines])


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(escape_latex(cell) for cell in cells) + r" \\"


def _harmless(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) and not _is_number(cell) else cell


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _wrapped(text: str, width: int | None) -> str:
    return one_line(text) if width is None else textwrap.fill(one_line(text), width)


def _text_table(table: TableBlock, width: int | None) -> str:
    columns = []
    for index, (header, side) in enumerate(zip(table.header, table.alignment, strict=True)):
        section, name = re.fullmatch(r"(.*[./])?(.*)", one_line(header)).groups("")  # type: ignore[union-attr]
        columns.append(_padded([section, name, *(one_line(row[index]) for row in table.rows)], side))
    first, *others = columns
    texts = [_wrapped(table.title, width)] if table.title else []
    while others:
        block, room = [first, others.pop(0)], len(others)
        if width is not None:
            sums = itertools.accumulate([_width(block[1]), *map(_width, others)])
            room = sum(total <= width - _width(first) for total in sums) - 1
        block, others = [*block, *others[: max(0, room)]], others[max(0, room) :]
        lines = ["".join(cells).rstrip() for cells in zip(*block, strict=True)]
        texts.append("\n".join(lines if lines[0] else lines[1:]))
    return "\n\n".join(texts)


def _padded(cells: Sequence[str], side: str) -> list[str]:
    """Return cells of equal width with two spaces after each."""
    from rich.cells import cell_len

    width = max(map(cell_len, cells))
    spaces = [" " * (width - cell_len(cell)) for cell in cells]
    return [f"{s}{cell}  " if side == "r" else f"{cell}{s}  " for cell, s in zip(cells, spaces, strict=True)]


def _width(column: Sequence[str]) -> int:
    from rich.cells import cell_len

    return cell_len(column[0])
