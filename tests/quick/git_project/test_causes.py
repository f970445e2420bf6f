"""The line that `reproduce` gives as the cause when a run could not be tried again."""

from __future__ import annotations

import pytest
from examples import module

last_cause = module("git_project", "again").last_cause
repository = module("git_project", "repository")
AFTER = "2026/11/28 03:00:03 ERROR mlflow.cli: === Run (ID '0') failed ==="


@pytest.mark.parametrize(
    ("printed", "cause"),
    [
        (
            ["Traceback (most recent call last):", '  File "train.py", line 1', "KeyError: 'SECRET'"],
            "KeyError: 'SECRET'",
        ),
        (
            ["error: No solution found", "  cause: Because nowhere was not found and you", "         require it."],
            "Because nowhere was not found and you require it.",
        ),
        (["  × No solution found", "  ╰─▶ Because nowhere was not", "      found."], "Because nowhere was not found."),
        ([], ""),
    ],
)
def test_the_cause_is_said_whole_without_what_mlflow_says_of_it(printed: list[str], cause: str) -> None:
    assert last_cause([*printed, "hint: The network was disabled.", AFTER]) == cause


@pytest.mark.parametrize("lacks", ["Username", "Password"])
def test_a_repository_that_asks_for_a_password_is_said_with_the_cure(lacks: str) -> None:
    """Git asks for the password alone where its configuration names the user."""
    said = f"fatal: could not read {lacks} for 'https://ada@host': terminal prompts disabled"
    error = repository._unreadable("https://host/repo.git", said).message
    assert error.endswith("asks for a user and password, and Git has none: set up a credential helper.")
