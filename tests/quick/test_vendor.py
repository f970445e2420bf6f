"""The copies of support/ in the examples are what `make vendor` writes."""

from __future__ import annotations

import vendor


def test_no_copy_differs_from_its_source() -> None:
    wanted = vendor.copies()
    assert set(wanted) == set(vendor.FOLDER.glob("*/support/*.py"))
    for path, text in wanted.items():
        assert path.read_text(encoding="utf-8") == text, f"run make vendor: {path}"
