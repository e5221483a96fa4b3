"""Build the documentation as a site: build/site/index.html.

    python docs/build_site.py           # make docs

The pages are those of docs/, with the README, CONTRIBUTING and CHANGELOG, gathered in build/site-source:
links between them are made to fit, links to files that are no pages become their paths, and the pages of the
API are written from the list below. Sphinx then reads them with warnings as errors. It needs the extra
``docs``.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
SOURCE, TARGET = ROOT / "build" / "site-source", ROOT / "build" / "site"
MORE = {"README.md": "readme.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Pages from outside docs/, by their place in the repository, and what they are called in the site."""

TREE = {
    "Use": (
        *(
            "readme",
            "data",
            "thermal",
            "scenes",
            "training",
            "evaluating",
            "robustness",
            "predicting",
            "rig",
            "serve",
        ),
        *(
            "fusing",
            "fusion-metrics",
            "deploying",
            "sharing",
            "first-labels",
            "annotating",
            "gallery",
            "limits",
        ),
    ),
    "Systems": (
        *("systems/amdanet", "systems/cddfuse", "systems/cen", "systems/classical", "systems/csknet"),
        *("systems/deeplabv3plus", "systems/disoptnet", "systems/learned", "systems/mmanet"),
        *("systems/mrfs", "systems/segmif"),
    ),
    "Measured": (
        *("reproducing", "results/real-pairs", "results/scenes-tables", "results/alignment"),
        *("results/infrared-alone", "results/thermal-streets", "results/robustness", "results/band-monitor"),
        *("results/roadscene", "results/learned-fuser", "results/speed"),
    ),
    "Inside": ("architecture", "contributing", "changelog", "api/index"),
}
"""The pages in the order of the site's list."""

API = {
    "crossband": "what a first program needs",
    "crossband.prediction": "what a system sees in a pair",
    "crossband.systems.base": "the contract of systems",
    "crossband.systems.creation": "systems from names and plain data",
    "crossband.recipe": "how a phase is optimised",
    "crossband.training.options": "everything that decides a training",
    "crossband.training.engine": "training and resuming",
    "crossband.pairs.base": "pairs and their classes",
    "crossband.pairs.opening": "sources of pairs",
    "crossband.pairs.export": "sources as folders",
    "crossband.pairs.augmentation": "what is done to pairs in training",
    "crossband.pairs.corruption": "what goes wrong with cameras",
    "crossband.evaluation.result": "what an evaluation found",
    "crossband.evaluation.comparison": "which method is better",
    "crossband.evaluation.robustness": "what a broken camera costs",
    "crossband.metrics.protocols": "which classes a mean IoU averages",
    "crossband.metrics.segmentation": "scores of a confusion matrix",
    "crossband.metrics.resampling": "intervals",
    "crossband.report.page": "pages",
    "crossband.pictures": "labels and bands as pictures",
    "crossband.colour_vision": "colours that are told apart",
    "crossband.display": "how infrared is shown",
    "crossband.card": "what a run says of itself",
    "crossband.errors": "what can be raised",
    "crossband.testing": "the tests that every system passes",
}
"""The modules of the API's pages."""


def gather() -> None:
    """Write all pages to `SOURCE`, which is made anew."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    SOURCE.mkdir(parents=True)
    shutil.copytree(DOCS / "images", SOURCE / "images")
    pages = {
        path.relative_to(ROOT).as_posix(): path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")
    }
    pages |= MORE
    for place, name in pages.items():
        target = SOURCE / name
        target.parent.mkdir(parents=True, exist_ok=True)
        text = (ROOT / place).read_text(encoding="utf-8")
        if name == "index.md":
            text += _toctrees()
        target.write_text(fitted(text, place, name, pages), encoding="utf-8")
    _write_api()


def fitted(text: str, place: str, name: str, pages: dict[str, str]) -> str:
    """A page's text with its links as the site has them: to pages by their new names, else the path as code.

    place: of the page in the repository. name: in the site. pages: from the one to the other, of all.
    """

    def link(found: re.Match[str]) -> str:
        mark, words, target = found.groups()
        if re.match(r"[a-z]+:|#", target):
            return found[0]
        path, _, anchor = target.partition("#")
        there = _normal(PurePosixPath(place).parent / path)
        if there in pages:
            up = "../" * name.count("/")
            return f"{mark}[{words}]({up}{pages[there]}{'#' + anchor if anchor else ''})"
        if there.startswith("docs/images/"):
            return f"{mark}[{words}]({'../' * name.count('/')}{there.removeprefix('docs/')})"
        return words if words.startswith("`") else f"{words} (`{there}`)"

    return re.sub(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)", link, text)


def _normal(path: PurePosixPath) -> str:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def _toctrees() -> str:
    return "".join(
        f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n" + "\n".join(names) + "\n```\n"
        for caption, names in TREE.items()
    )


def _write_api() -> None:
    folder = SOURCE / "api"
    folder.mkdir()
    rows = "".join(f"| [`{module}`]({module}.md) | {what} |\n" for module, what in API.items())
    names = "\n".join(API)
    (folder / "index.md").write_text(
        "# API\n\nFrom the docstrings. Names that are not here may change without notice.\n\n"
        f"| module | what |\n|---|---|\n{rows}\n```{{toctree}}\n:hidden:\n\n{names}\n```\n",
        encoding="utf-8",
    )
    for module, what in API.items():
        # The public face has no members of its own: it hands on those of other modules.
        members = ":imported-members:\n" if module == "crossband" else ""
        (folder / f"{module}.md").write_text(
            f"# {module}\n\n{what[0].upper()}{what[1:]}.\n\n```{{eval-rst}}\n.. automodule:: {module}\n"
            f"   :members:\n{'   ' + members if members else ''}```\n",
            encoding="utf-8",
        )


def main() -> int:
    from sphinx.cmd.build import build_main

    gather()
    return build_main(
        ["-W", "--keep-going", "-q", "-b", "html", "-c", str(DOCS / "site"), str(SOURCE), str(TARGET)]
    )


if __name__ == "__main__":
    sys.exit(main())
