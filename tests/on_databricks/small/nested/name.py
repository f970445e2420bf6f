"""A module that says its name."""

print("NAME", __name__)
