"""Draws which classes were taken for which."""

import math
from collections.abc import Sequence

from reprise.tools.plots.svg import DIGIT, document, line, rectangle, shortened, text

MOST_CLASSES = 100
"""Of more, single cells could no longer be seen."""
_MOST_COUNTED, _MOST_NAMED = 20, 50  # classes up to which cells have their counts, and rows their names
_HEADER = 52


def draw_confusion_matrix(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> str | None:
    """Return the matrix as SVG, None for more than `MOST_CLASSES` classes; `counts` by label, then by prediction.

    A cell is coloured as strongly as its share of its row is large; hits and confusions have colours of their own.
    """
    num_classes = len(labels)
    if not 0 < num_classes <= MOST_CLASSES:
        return None
    widest = max(len(f"{cell:,}") for row in counts for cell in row)
    cell = (
        max(34.0, 12 + DIGIT * widest) if num_classes <= _MOST_COUNTED else 14.0 if num_classes <= _MOST_NAMED else 7.0
    )
    is_named = num_classes <= _MOST_NAMED
    names = [shortened(label) for label in labels] if is_named else []
    longest = DIGIT * max(map(len, names), default=3)
    is_turned = longest > cell - 6
    left, top, size = 36 + longest, _HEADER + 20 + (longest if is_turned and names else 12), cell * num_classes
    parts = [
        text(16, 22, "Rows are labels, columns are predictions.", "title"),
        text(
            16,
            40,
            "The stronger the colour, the larger the share of the row; hits blue, confusions orange.",
            "faint small",
        ),
    ]
    for number, name in enumerate(names):
        middle = cell * (number + 0.5)
        kind = "small" if cell < 20 else ""
        parts.append(text(left - 8, top + middle + 4, name, f"{kind} end".strip()))
        if is_turned:
            x = left + middle + 4
            parts.append(text(x, top - 8, name, kind, f"rotate(-90 {x:.1f} {top - 8:.1f})"))
        else:
            parts.append(text(left + middle, top - 8, name, "middle"))
    for row, (label, values) in enumerate(zip(labels, counts, strict=True)):
        total = sum(values)
        for column, value in enumerate(values):
            if not value:
                continue
            opacity = math.sqrt(value / total)
            x, y = left + cell * column, top + cell * row
            hint = f"{label} taken for {labels[column]}: {value:,} of {total:,}"
            kind = "hit" if row == column else "miss"
            parts.append(rectangle(x, y, cell, cell, kind, opacity, hint))
            if num_classes <= _MOST_COUNTED:
                on = "on middle" if opacity > 0.55 else "middle"
                parts.append(text(x + cell / 2, y + cell / 2 + 4, f"{value:,}", on))
    every = 1 if is_named else 10
    for number in range(0, num_classes + 1, every):
        place = cell * number
        parts.append(line(left, top + place, left + size, top + place, "grid", 0.5))
        parts.append(line(left + place, top, left + place, top + size, "grid", 0.5))
        if not is_named and number < num_classes:
            parts.append(text(left - 6, top + place + 10, str(number), "faint small end"))
            parts.append(text(left + place, top - 6, str(number), "faint small"))
    if not is_named:
        parts.append(
            text(left, top + size + 20, "Classes are numbered from 0, in the order of their labels.", "faint small")
        )
    width = max(left + size + 20, 500)
    return document(width, top + size + (20 if is_named else 36), f"Confusion matrix of {num_classes} classes", parts)
