# Copied by `make vendor` from support/__init__.py of the collection: edit that, or this in your own copy.
"""What the examples share: see CONTRIBUTING.md for how the copies are made."""
