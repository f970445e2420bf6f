# Copied from support/__init__.py by `make vendor`: edit that one.
"""What the examples share: see CONTRIBUTING.md for how the copies are made."""
