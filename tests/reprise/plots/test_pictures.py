import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from browser import EXECUTABLE, Page, open_browser

from reprise.runs.metrics_log import MetricEntry
from reprise.tools.plots.confusion_matrix import MOST_CLASSES, draw_confusion_matrix
from reprise.tools.plots.learning_curves import draw_learning_curves
from reprise.tools.plots.reliability import draw_reliability
from reprise.tools.plots.svg import ticks

HOSTILE = "</title><script>alert(1)</script>&\"'\x00\u202e"
SVG = "{http://www.w3.org/2000/svg}"


def history(*losses: float) -> list[MetricEntry]:
    return [
        MetricEntry(
            "", epoch, 10 * epoch, {"train/loss": loss / 2, "val/loss": float(loss), "val/accuracy": 1 - loss / 10}
        )
        for epoch, loss in enumerate(losses, 1)
    ]


def matrix(num_classes: int, name: str = "class {}") -> str | None:
    counts = [[40 if i == j else int(j == i + 1) for j in range(num_classes)] for i in range(num_classes)]
    return draw_confusion_matrix([name.format(i) for i in range(num_classes)], counts)


def parsed(picture: str | None) -> ElementTree.Element:
    assert picture is not None
    return ElementTree.fromstring(picture)


def texts(picture: str | None) -> list[str]:
    return [node.text or "" for node in parsed(picture).iter(f"{SVG}text")]


def test_losses_share_a_panel_and_the_best_checkpoint_is_marked_with_its_figures() -> None:
    picture = draw_learning_curves(history(4, 2, 1, 3), "val/loss", 30)
    found = texts(picture)
    assert {"train/loss", "val/loss", "val/accuracy", "optimizer steps"} <= set(found)
    assert "best checkpoint, step 30: train/loss 0.5000, val/loss 1.000" in found
    assert "best checkpoint, step 30: val/accuracy 90.00 %" in found
    assert len(list(parsed(picture).iter(f"{SVG}polyline"))) == 3


def test_the_monitored_metric_has_the_second_panel() -> None:
    entries = [MetricEntry("", 1, 5, {"val/loss": 1.0, "val/accuracy": 0.5, "val/bits": 2.0})]
    assert "val/bits" in texts(draw_learning_curves(entries, "val/bits", 5))
    assert "val/accuracy" in texts(draw_learning_curves(entries, "val/loss", 5))


def test_a_long_history_keeps_its_extremes() -> None:
    losses = [1.0] * 5000
    losses[2345] = 9.0
    picture = draw_learning_curves(history(*losses), "val/loss", None)
    points = [node.get("points") or "" for node in parsed(picture).iter(f"{SVG}polyline")]
    assert all(len(line.split()) <= 400 for line in points)
    heights = [float(place.partition(",")[2]) for place in points[1].split()]
    assert min(heights) < 80 < max(heights)


def test_nothing_evaluated_is_nothing_drawn() -> None:
    assert draw_learning_curves([], "val/loss", None) is None
    assert draw_reliability([]) is None
    assert draw_confusion_matrix([], []) is None


def test_cells_have_their_counts_where_there_is_room_and_their_meaning_everywhere() -> None:
    assert texts(matrix(10)).count("40") == 10
    assert "class 3" in texts(matrix(10))
    for num_classes in (10, 30, 100):
        hints = [node.text for node in parsed(matrix(num_classes)).iter(f"{SVG}title")]
        assert "class 3 taken for class 4: 1 of 41" in hints
    assert "40" not in texts(matrix(30))
    assert "class 3" not in texts(matrix(100))
    assert matrix(MOST_CLASSES + 1) is None


def test_calibration_error_is_the_weighted_distance_of_confidence_and_accuracy() -> None:
    sure_and_right = [(0.95, True)] * 75
    unsure = [(0.55, True)] * 5 + [(0.55, False)] * 20
    # 0.75 * |0.95 - 1| + 0.25 * |0.55 - 0.2|
    assert "100 samples, expected calibration error 12.5 %" in texts(draw_reliability(sure_and_right + unsure))


@pytest.mark.parametrize("picture", [matrix(3, HOSTILE), draw_learning_curves(history(2, 1), HOSTILE, 10)])
def test_markup_in_labels_stays_text(picture: str) -> None:
    assert "<script" not in picture
    assert "\x00" not in picture
    parsed(picture)


def test_same_figures_give_the_same_bytes_and_nothing_is_loaded_from_elsewhere() -> None:
    for draw in (lambda: matrix(10), lambda: draw_learning_curves(history(2, 1), "val/loss", 20)):
        first, second = draw(), draw()
        assert first is not None
        assert first == second
        assert re.findall(r"https?://[^\"]*|url\(|@import|href", first) == ["http://www.w3.org/2000/svg"]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.981, 0.983), (-5, 1e6), (3, 3), (0, 0), (1e-9, 2e-9)])
def test_ticks_are_round_and_span_the_values(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 2 <= len(found) <= 10
    assert found[0] <= low + 1e-12
    assert found[-1] >= high - 1e-12 * max(1, abs(high))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.long
@pytest.mark.skipif(EXECUTABLE is None, reason="there is no Chromium here")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("num_classes", [3, 10, 50])
def test_in_a_browser_texts_lie_within_the_picture_and_can_be_read(
    page: Page, tmp_path: Path, scheme: str, num_classes: int
) -> None:
    for picture in (
        matrix(num_classes),
        draw_learning_curves(history(4, 2), "val/loss", 20),
        draw_reliability([(0.9, True)]),
    ):
        assert picture is not None
        (tmp_path / "picture.svg").write_text(picture)
        page.prefer(scheme)
        page.open(tmp_path / "picture.svg")
        outside = page.run(
            "(() => { const box = document.documentElement.getBoundingClientRect();"
            " return [...document.querySelectorAll('text')].filter((text) => { const b = text.getBoundingClientRect();"
            " return b.left < box.left || b.top < box.top || b.right > box.right + 1 || b.bottom > box.bottom; })"
            ".map((text) => text.textContent); })()"
        )
        assert outside == []
        colours = page.run(
            "[getComputedStyle(document.querySelector('.back')).fill,"
            " getComputedStyle(document.querySelector('.title')).fill]"
        )
        back, ink = (sum(map(int, re.findall(r"\d+", colour))) for colour in colours)
        assert (back > 600 and ink < 150) if scheme == "light" else (back < 100 and ink > 600)
