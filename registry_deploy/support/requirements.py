# Copied by `make vendor` from support/requirements.py of the collection: edit that, or this in your own copy.
"""What a logged model needs: packages, at the versions with which it was fitted."""

from __future__ import annotations

from importlib.metadata import version

OF_A_PIPELINE = ["mlflow", "scikit-learn", "skops", "pandas", "numpy"]  # what a Pipeline needs that skops has stored


def pinned(*packages: str) -> list[str]:
    """Installed packages with their versions, as `pip_requirements` of MLflow: numpy==2.3.5."""
    return [f"{package}=={version(package)}" for package in packages]
