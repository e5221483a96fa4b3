"""The pages: what they link to is there, and the options that they name exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from crossband.systems import loss_options, network_options

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("speed/*.md")])
ABOUT_SYSTEMS = [page for page in PAGES if page.parent.name == "systems" and page.stem != "classical"]


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


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
