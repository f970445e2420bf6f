"""Copy what the examples share from support/ into the support/ of each example that imports it: `make vendor`.

An example must run where only its own folder is: copied out, or uploaded to Databricks. So it carries copies, each of
which says in its first line where to edit it.
"""

from __future__ import annotations

import ast
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
SOURCE = FOLDER / "support"
MARK = "# Copied by `make vendor` from support/{name}.py of the collection: edit that, or this in your own copy.\n"


def imported(path: Path) -> set[str]:
    """The modules of support/ that a Python file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "support":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("support."):
            found.add(str(node.module).removeprefix("support."))
    return found


def modules_of(example: Path) -> set[str]:
    """The modules of support/ that an example needs, those that they import themselves included."""
    needed: set[str] = set()
    found = {name for path in example.glob("**/*.py") if path.parent.name != "support" for name in imported(path)}
    while new := found - needed:
        needed |= new
        found = {name for module in new for name in imported(SOURCE / f"{module}.py")}
    return needed


def copies() -> dict[Path, str]:
    """The path of each copy, and what stands in it."""
    found = {}
    for mlproject in sorted(FOLDER.glob("*/MLproject")):
        needed = modules_of(mlproject.parent)
        for name in ["__init__", *sorted(needed)] if needed else []:
            mark = MARK.format(name=name)
            text = mark + (SOURCE / f"{name}.py").read_text(encoding="utf-8")
            found[mlproject.parent / "support" / f"{name}.py"] = text
    return found


def vendor() -> None:
    """Write every copy, and remove those that nothing imports any more."""
    wanted = copies()
    for old in set(FOLDER.glob("*/support/*.py")) - set(wanted):
        old.unlink()
    for path, text in wanted.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    vendor()
