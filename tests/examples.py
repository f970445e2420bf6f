"""Import a module of an example in this process: several examples have modules of the same name."""

from __future__ import annotations

import os
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import support  # the source of the copies: an example that is imported here finds it first

COLLECTION = Path(support.__file__).resolve().parent.parent


@cache
def module(example: str, name: str) -> Any:
    """The module of an example, as its own scripts import it; those of other examples stay out of reach."""
    folder = COLLECTION / example
    sys.path.insert(0, str(folder))
    try:
        return import_module(name)
    finally:
        sys.path.remove(str(folder))
        for other, loaded in list(sys.modules.items()):
            if (getattr(loaded, "__file__", None) or "").startswith(f"{folder}{os.sep}"):
                del sys.modules[other]
