"""Refuses as an entry point does: one line, exit code 2."""

import sys

print("Error: nothing to do")
sys.exit(2)
