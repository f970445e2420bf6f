"""What is printed and drawn speaks French with `language=fr`: each text has its French, and no French is left over."""

from __future__ import annotations

import ast
import re
import string
from pathlib import Path

from support.french import FRENCH

COLLECTION = Path(__file__).resolve().parents[3]
OF_OPTUNA = {"Trial", "Best Value", "Hyperparameter", "Hyperparameter Importance"}  # axes, handed on as they are found


def texts() -> tuple[set[str], set[str]]:
    """The texts that the examples hand to `tr` as they stand, and all that their code holds."""
    handed, held = set[str](), set[str]()
    for path in [*COLLECTION.glob("*.py"), *COLLECTION.glob("*/*.py"), *COLLECTION.glob("new_project/*/*.py")]:
        if path.name == "french.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                held.add(node.value)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "tr":
                handed |= {str(each.value) for each in node.args[:1] if isinstance(each, ast.Constant)}
    return handed, held


def fields(text: str) -> set[str]:
    """The values between the braces of a text."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_every_text_has_its_french_and_none_is_left_over() -> None:
    handed, held = texts()
    with_words = {text for text in handed if re.search(r"\w", re.sub(r"{.*?}", "", text))}
    assert len(with_words) > 50
    assert not with_words - set(FRENCH)
    assert set(FRENCH) - held == OF_OPTUNA


def test_the_french_holds_the_same_values() -> None:
    for english, french in FRENCH.items():
        assert fields(french) == fields(english)


def test_the_french_has_no_break_before_its_high_punctuation() -> None:
    assert not [text for text in FRENCH.values() if re.search(r"[ \w}][;:!?%»](?:\s|$)|« |'", text)]
