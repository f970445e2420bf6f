"""The colours and lines of the pictures: seen on white, and told apart without colours."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from support import language
from support.style import COLORS, DASHES, MARKERS, contrast, in_language


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("black") == pytest.approx(21)
    assert contrast("#777777") == pytest.approx(4.48, abs=0.005)
    assert contrast("#0072B2", "#0072B2") == 1


def test_each_colour_is_seen_on_white() -> None:
    assert min(contrast(color) for color in COLORS) >= 4.5


def test_no_two_lines_or_segments_differ_by_colour_alone() -> None:
    assert len({str(dashes) for dashes in DASHES}) == len(DASHES) == len(COLORS)
    looks = [(COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]) for number in range(20)]
    assert len(set(looks)) == 20
    assert len(set(MARKERS)) == len(MARKERS) > len(COLORS)


def labels(scale: str) -> list[str]:
    """What stands at the ticks of an axis from 0.01 to 1000, or from 0 to 0.5."""
    figure = Figure()
    axes = figure.subplots()
    axes.set(yscale=scale, ylim=(0.01, 1000) if scale == "log" else (0, 0.5), xticks=[0], xticklabels=["v1.5"])
    in_language(figure).canvas.draw()
    assert [label.get_text() for label in axes.get_xticklabels()] == ["v1.5"]
    return [label.get_text() for label in axes.get_yticklabels() if label.get_text()]


def test_an_axis_has_the_decimal_mark_of_the_language(monkeypatch: pytest.MonkeyPatch) -> None:
    assert labels("linear")[1:3] == ["0.1", "0.2"]
    assert {"0.01", "1", "100"} <= set(labels("log"))
    monkeypatch.setitem(language._french, "anything", "French is spoken")
    assert labels("linear")[1:3] == ["0,1", "0,2"]
    assert {"0,01", "1", "100"} <= set(labels("log"))


def test_an_axis_of_values_close_together_shows_them_whole() -> None:
    figure = Figure()
    axes = figure.subplots()
    axes.set(ylim=(0.83983, 0.83989))
    in_language(figure).canvas.draw()
    assert axes.yaxis.get_offset_text().get_text() == ""
    assert axes.get_yticklabels()[1].get_text().startswith("0.8398")
