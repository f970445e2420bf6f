"""Fail a job whose parameter `entry_point` names none: `python unknown_entry_point.py NAME KNOWN ...`."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    sys.exit(f"Error: {sys.argv[1]!r} is no value of entry_point; choose from: {', '.join(sys.argv[2:])}.")
