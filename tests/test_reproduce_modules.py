"""Modules of `crossband.reproduce` import downwards: tables, planning, running and printing stand apart."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import crossband.reproduce

FOLDER = Path(crossband.reproduce.__file__).parent
LEVELS = (
    {"table"},
    {"csknet_tables", "amdanet_tables"},
    {"tables", "settings"},
    {"settings_words", "settings_file", "quick"},
    {"jobs"},
    {"planning", "folders"},
    {"estimate", "running", "sizes", "facts"},
    {"plan_text", "ray_launcher", "filling"},
    {"sheet"},
    {"printing"},
    {"reproducing"},
)
"""From the lowest to the highest."""
APART = {"planning": "running", "running": "printing", "printing": "planning"}


def imported(module: str) -> set[str]:
    """The modules of the room that a module imports, anywhere in it."""
    tree = ast.parse((FOLDER / f"{module}.py").read_text(encoding="utf-8"))
    names = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    room = "crossband.reproduce"
    found = {node.module.removeprefix(f"{room}.") for node in names if node.module.startswith(f"{room}.")}
    return found | {alias.name for node in names if node.module == room for alias in node.names}


def reached(module: str) -> set[str]:
    """What a module imports, and what that imports in turn."""
    direct = imported(module)
    return direct.union(*map(reached, direct))


@pytest.mark.parametrize("module", sorted(path.stem for path in FOLDER.glob("[a-z]*.py")))
def test_a_module_imports_only_what_is_below_it(module: str) -> None:
    (level,) = (number for number, level in enumerate(LEVELS) if module in level)
    assert imported(module) <= set().union(*LEVELS[:level])


@pytest.mark.parametrize(("one", "other"), [*APART.items(), *((b, a) for a, b in APART.items())])
def test_planning_running_and_printing_do_not_know_of_each_other(one: str, other: str) -> None:
    assert other not in reached(one)
