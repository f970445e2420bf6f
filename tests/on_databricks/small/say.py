"""Does what a pasted script cannot: a future import, a sibling import, and its own place."""

from __future__ import annotations

import sys
from pathlib import Path

import mlflow
from sibling import note

with mlflow.start_run():
    note(sys.argv[1:])
    mlflow.log_text(Path(__file__).name, "file.txt")
print("SAID", sys.argv[1:])
