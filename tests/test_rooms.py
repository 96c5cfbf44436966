# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Which room imports which: the arrows of the tree."""

import ast
from pathlib import Path

import pytest

from modeling_gau.__main__ import TOOLS, main


PACKAGE = Path(__file__).parents[1] / "modeling_gau"
HUB_FILES = {"configuration_gau", "unpadding_gau", "attention_gau", "kernels_gau", "modeling_gau"}
ALLOWED = {
    "text": {"model"},
    "runs": {"model", "text"},
    "pretraining": {"model", "text", "runs"},
    "glue": {"model", "text", "runs"},
    "lengths": {"model", "text", "runs", "pretraining", "glue"},
    "gau_alpha": {"model", "text", "runs.command_line", "runs.model_card", "runs.models", "runs.options"},
    "export": {"model", "text", "runs.command_line", "runs.models", "runs.recipes"},
}


def imported_modules(path: Path) -> set[tuple[str, ...]]:
    """Modules of the package that a file imports, anywhere in it, as parts of their path."""
    here = path.relative_to(PACKAGE).parent.parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = here[: len(here) - node.level + 1]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "modeling_gau":
            base = None
        else:
            continue
        parts = tuple((node.module or "").split(".")) if node.module else ()
        whole = parts[1:] if base is None else (*base, *parts)
        found |= {whole} if parts else {(*whole, alias.name) for alias in node.names}
    return found


def room_of(module: tuple[str, ...]) -> str:
    if not module or module[0] in HUB_FILES or module[0].startswith("GAU"):
        return "model"
    return module[0]


FILES = sorted(path for path in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_follow_the_arrows(path):
    room = path.relative_to(PACKAGE).with_suffix("").parts[0]
    if room in HUB_FILES | {"__init__", "__main__"}:
        # The first answers --help before the others take seconds.
        assert {".".join(module) for module in imported_modules(path)} <= HUB_FILES | {"runs.options"}
        return
    allowed = ALLOWED[room]
    wrong = [
        ".".join(module)
        for module in imported_modules(path)
        if room_of(module) != room and room_of(module) not in allowed and ".".join(module[:2]) not in allowed
    ]
    assert not wrong


def test_every_room_says_what_it_is_for():
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms == ALLOWED.keys() - {"export"}
    for room in rooms:
        text = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8")))
        assert text and "Imports" in text


def test_the_top_of_the_package_is_flat_and_short():
    assert {path.stem for path in PACKAGE.glob("*.py")} == HUB_FILES | {"__init__", "__main__", "export"}


def test_the_tools_are_listed(capsys):
    runnable = {
        ".".join(("modeling_gau", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__main__")
        for path in FILES
        if path.name == "__main__.py" or 'if __name__ == "__main__"' in path.read_text(encoding="utf-8")
    } - {"modeling_gau"}
    assert runnable == TOOLS.keys()
    main()
    printed = capsys.readouterr().out
    assert all(f"python -m {tool} " in printed for tool in TOOLS)
