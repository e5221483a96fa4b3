"""The pages: what they link to and the options that they name exist, and their snippets can be run as they
stand.

Python snippets are compiled, and every `crossband` line of a shell snippet is parsed by the command line's
own parser. What can be executed is, by tests/test_snippets.py; so are the examples (tests/test_examples.py).
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import runpy
import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from crossband.cli import build_parser
from crossband.systems import loss_options, network_options
from crossband.terminal import config_first, named_recipe_apart

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("speed/*.md")])
ABOUT_SYSTEMS = [page for page in PAGES if page.parent.name == "systems" and page.stem != "classical"]


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


def test_the_map_names_every_module() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    there = page.partition("```\nsrc/crossband/\n")[2].partition("```")[0]
    modules = [
        path for path in (ROOT / "src" / "crossband").iterdir() if not path.name.startswith(("_", "."))
    ]
    named = {f"{path.name}/" if path.is_dir() else path.name for path in modules if path.name != "py.typed"}
    assert [name for name in sorted(named) if not re.search(rf"(?<![\w/.]){re.escape(name)}", there)] == []
    files = {path.name for folder in ("src", "tests", "docs") for path in (ROOT / folder).rglob("*.py")}
    assert sorted({*re.findall(r"\w+\.py", there)} - files) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_links_to_is_there(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    missing = []
    for link in (link for link in links if not re.match(r"[a-z]+:", link)):
        path, _, anchor = link.partition("#")
        place = page.parent / path if path else page
        if not place.exists() or (anchor and place.suffix == ".md" and anchor not in anchors(place)):
            missing.append(link)
    assert not missing


@pytest.mark.parametrize("page", ABOUT_SYSTEMS, ids=lambda page: page.stem)
def test_the_options_that_a_system_s_page_names_are_its_own(page: Path) -> None:
    named = re.findall(r"`--(network|loss)\.([a-z0-9_]+)", page.read_text(encoding="utf-8"))
    has = {"network": network_options(page.stem), "loss": loss_options(page.stem)}
    assert not [f"--{kind}.{name}" for kind, name in named if name not in has[kind]]


RESULTS = sorted((ROOT / "docs" / "results").glob("*.md"))


@pytest.mark.parametrize("page", RESULTS, ids=lambda page: page.stem)
def test_no_measured_row_is_on_a_page_twice(page: Path) -> None:
    """One set's rows in the table of another: no two trainings have the same means and ranges."""
    rows = re.findall(r"^\|.*\|$", page.read_text(encoding="utf-8"), re.MULTILINE)
    measured = [row for row in rows if len(re.findall(r"\d\.\d", row)) > 1]
    assert not {row for row, times in Counter(measured).items() if times > 1}


def snippets(kind: str) -> list[tuple[str, str]]:
    """The snippets of a language on all pages, each with the place that it begins at."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(rf"^```{kind}\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            line = text[: match.start()].count("\n") + 1
            found.append((f"{page.relative_to(ROOT)}:{line}", match[1]))
    return found


@pytest.mark.parametrize(("place", "code"), snippets("python"), ids=lambda text: str(text)[:40])
def test_a_python_snippet_compiles(place: str, code: str) -> None:
    compile(code, place, "exec")


def commands() -> list[tuple[str, str]]:
    """Every `crossband` line of the shell snippets, continued lines joined, with its place."""
    lines = [
        (place, line.strip())
        for place, code in snippets("sh")
        for line in code.replace("\\\n", " ").splitlines()
    ]
    return [(place, line) for place, line in lines if line.startswith("crossband ")]


def test_there_are_commands_on_the_pages() -> None:
    assert len(commands()) > 60
    assert len(snippets("python")) > 15


@pytest.mark.parametrize("place", sorted({place for place, _ in commands()}))
def test_the_commands_of_a_snippet_are_ones(place: str) -> None:
    """Names, options and the kinds of their values; whether the files are there is another matter."""
    parser, _ = build_parser()
    for line in (line for there, line in commands() if there == place):
        said = io.StringIO()
        arguments = config_first(named_recipe_apart(shlex.split(line, comments=True)[1:]))
        # A file of options is read while parsing, and is not here.
        if "--config" in arguments:
            continue
        code: object = 0
        try:
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
                parser.parse_args([argument for argument in arguments if argument != "..."])
        except SystemExit as end:
            code = end.code
        assert code == 0, f"{place}: {line}\n{said.getvalue()}"


def script(name: str) -> Any:
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses look their module up.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ABOUT_SYSTEMS, ids=lambda page: page.stem)
def test_the_picture_of_a_system_s_data_flow_is_current(page: Path) -> None:
    drawing = script("draw_systems")
    assert f"../images/systems/{page.stem}.svg" in page.read_text(encoding="utf-8")
    kept = (drawing.FOLDER / f"{page.stem}.svg").read_text(encoding="utf-8")
    assert kept == drawing.draw(page.stem), "run python docs/draw_systems.py"


def test_the_flow_is_that_of_the_code() -> None:
    parts = script("draw_systems").follow("csknet")
    assert parts["classes"].sources == {"fused_head"}
    assert parts["gated_unit"].sources == {"visible decoder", "infrared decoder"}
    # Nothing of the other band before the first exchange, which follows the first stage.
    assert parts["visible stem"].bands == {"visible"}
    assert parts["infrared decoder"].bands == {"visible", "infrared"}


def test_every_page_is_in_the_site() -> None:
    site = script("build_site")
    listed = [f"{name}.md" for names in site.TREE.values() for name in names]
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert sorted(listed) == sorted({*pages, *site.MORE.values(), "api/index.md"} - {"index.md"})
    made = site.fitted(
        "[a](../README.md#x) [b](../../speed/run.py) [`c`](../y.py)",
        "docs/systems/s.md",
        "systems/s.md",
        {"docs/README.md": "readme.md"},
    )
    assert made == "[a](../readme.md#x) b (`speed/run.py`) `c`"


def test_ranges_in_tables_of_the_site_stay_in_one_line() -> None:
    """Else a row of a results page is as high as its cells have words."""
    path = ROOT / "docs" / "site" / "conf.py"
    conf: dict[str, Any] = runpy.run_path(str(path))
    kept = conf["range_kept_together"]("53.8 (53.1 to -54.9), up to 3")
    assert kept == "53.8 (53.1\u00a0to\u00a0-54.9), up to 3"
    for style in conf["html_css_files"]:
        assert any((path.parent / folder / style).is_file() for folder in conf["html_static_path"])
