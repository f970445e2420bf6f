# Copied from support/style.py by `make vendor`: edit that one.
"""Colours and lines that everybody can tell apart, colour-blind readers too."""

from __future__ import annotations

from typing import Any

# Okabe and Ito's colours, those darkened that are too pale on white.
COLORS = ["#0072B2", "#D55E00", "#000000", "#009E73", "#CC79A7", "#7A5200", "#3D96CC", "#767676"]
DASHES: list[Any] = ["-", "--", "-.", ":", *[(0, (10, 3)), (0, (3, 1, 1, 1)), (0, (7, 1, 1, 1, 1, 1)), (0, (2, 2))]]
MARKERS = ["o", "^", "s", "D", "v", "P", "X", "<", ">"]
