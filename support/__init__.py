"""What the examples share: see CONTRIBUTING.md for how the copies are made."""
