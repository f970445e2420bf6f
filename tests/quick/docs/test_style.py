"""The colours and lines of the pictures: seen on white, and told apart without colours."""

from __future__ import annotations

import pytest

from support.style import COLORS, DASHES, MARKERS, contrast


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
