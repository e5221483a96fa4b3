"""The rules of the house: imports run downwards and in no circle, and shared rooms are shared."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest


def load_script() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "docs" / "draw_architecture.py"
    spec = importlib.util.spec_from_file_location("draw_architecture", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HOUSE = load_script()
MODULES: dict[str, Path] = HOUSE.modules()
IMPORTS: dict[str, set[str]] = {name: HOUSE.imports(path, MODULES) for name, path in MODULES.items()}
ORDER = [name for name, _, _ in HOUSE.ROOMS]
SYSTEMS_BASE = ("base", "creation", "luma_fusion", "registry")


def reached(module: str) -> set[str]:
    """Everything that a module imports, directly or through others."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        for other in IMPORTS[waiting.pop()] - seen:
            seen.add(other)
            waiting.append(other)
    return seen


def system_of(module: str) -> str | None:
    parts = module.split(".")
    own = parts[:2] == ["crossband", "systems"] and len(parts) > 2 and parts[2] not in SYSTEMS_BASE
    return parts[2] if own else None


def circles() -> Iterator[list[str]]:
    """Strongly connected parts of more than one module (Tarjan's algorithm, by plain reachability)."""
    reach = {module: reached(module) for module in MODULES}
    for module in sorted(MODULES):
        circle = sorted(other for other in reach[module] if module in reach[other])
        if len(circle) > 1 and circle[0] == module:
            yield circle


def test_no_room_imports_from_one_above_it() -> None:
    upward = [
        f"{module} imports {other}"
        for module, others in IMPORTS.items()
        for other in sorted(others)
        if (here := HOUSE.room_of(module)) and (there := HOUSE.room_of(other))
        if ORDER.index(there) < ORDER.index(here)
    ]
    assert not upward


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert not list(circles())


@pytest.mark.parametrize("room", ["blocks", "losses"])
def test_what_stands_in_a_shared_room_has_two_users_or_more(room: str) -> None:
    users: dict[str, set[str]] = {m: set() for m in MODULES if m.startswith(f"crossband.{room}.")}
    for module in MODULES:
        system = system_of(module)
        if system is not None:
            for other in reached(module) & set(users):
                users[other].add(system)
    lonely = {module: sorted(systems) for module, systems in users.items() if len(systems) < 2}
    assert not lonely, "move it into the one system's folder"


def test_no_system_imports_another_ones_parts_but_the_baseline() -> None:
    foreign = [
        f"{module} imports {other}"
        for module, others in IMPORTS.items()
        for other in sorted(others)
        if (own := system_of(module)) and (its := system_of(other)) and own != its != "deeplabv3plus"
    ]
    assert not foreign


def test_networks_do_not_import_what_trains_them() -> None:
    upward = [
        f"{module} imports {other}"
        for module, others in IMPORTS.items()
        if system_of(module) and not module.endswith(".training")
        for other in others
        if other.endswith(".training") and system_of(other)
    ]
    assert not upward


def test_no_file_is_longer_than_one_thing() -> None:
    long = {name: n for name, path in MODULES.items() if (n := len(path.read_text().splitlines())) > 400}
    assert not long


def private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def called(node: ast.Call) -> str:
    """The last part of the name of what a call calls."""
    return str(getattr(node.func, "attr", getattr(node.func, "id", "")))


def reaches_into(tree: ast.AST) -> Iterator[str]:
    """Names with a leading underscore that are imported from our package, or taken of what comes from it."""
    ours: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "crossband":
            yield from (f"{node.module}.{alias.name}" for alias in node.names if private(alias.name))
            ours |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            named = [alias for alias in node.names if alias.name.partition(".")[0] == "crossband"]
            ours |= {alias.asname or "crossband" for alias in named}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and private(node.attr):
            owner = node.value
            while isinstance(owner, ast.Attribute):
                owner = owner.value
            if isinstance(owner, ast.Name) and owner.id in ours:
                yield ast.unparse(node)
        elif isinstance(node, ast.Call) and called(node).endswith("setattr") and len(node.args) > 1:
            owner, name = node.args[0], node.args[1]
            root = ast.unparse(owner).partition(".")[0]
            if root in ours and isinstance(name, ast.Constant) and private(str(name.value)):
                yield ast.unparse(node)


@cache
def private_names_of_the_package() -> set[str]:
    """What our modules call self._name; an object's is seen by its name alone."""
    found: set[str] = set()
    for path in MODULES.values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "self"
            ):
                found |= {node.attr} if private(node.attr) else set()
    return found


@pytest.mark.parametrize("folder", ["tests", "speed"])
def test_nothing_outside_reaches_into_private_names(folder: str) -> None:
    paths = sorted((Path(__file__).resolve().parents[1] / folder).rglob("*.py"))
    ours = private_names_of_the_package()
    assert len(ours) > 20
    found = []
    for path in paths:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found += [f"{path.name}: {name}" for name in reaches_into(tree)]
        found += [
            f"{path.name}: {ast.unparse(node)}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and node.attr in ours
            if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
        ]
    assert not found


def test_a_reach_into_private_names_is_seen() -> None:
    code = """
import crossband as cb
import crossband.pairs.reading
from crossband.training import engine
from crossband.locks import _secret
from torch.utils._python_dispatch import TorchDispatchMode
engine._Run._after_epoch
engine.__name__, cb._x, crossband.pairs.reading._y, os._exit
monkeypatch.setattr(engine, "_keep", 1)
"""
    assert sorted(reaches_into(ast.parse(code))) == [
        *("cb._x", "crossband.locks._secret", "crossband.pairs.reading._y", "engine._Run"),
        *("engine._Run._after_epoch", "monkeypatch.setattr(engine, '_keep', 1)"),
    ]


def test_the_ground_floor_loads_nothing_heavy() -> None:
    ground = [m for m in MODULES if HOUSE.room_of(m) == "ground" and not m.endswith(".tensors")]
    heavy = "{'torch', 'torchvision', 'timm', 'lightning', 'matplotlib', 'cv2', 'PIL'}"
    code = f"import sys\nimport {', '.join(ground)}\nprint(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_picture_is_current() -> None:
    assert HOUSE.PICTURE.read_text(encoding="utf-8") == HOUSE.draw(), "run python docs/draw_architecture.py"


def test_what_is_no_code_is_in_the_package_that_is_built() -> None:
    root = Path(__file__).resolve().parents[1]
    package = root / "src" / "crossband"
    given = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = given["tool"]["setuptools"]["package-data"]["crossband"]
    named = {path for pattern in patterns for path in package.glob(pattern)}
    other = {
        path
        for path in package.rglob("*")
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
    }
    assert other == named
