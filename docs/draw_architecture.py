"""Draw docs/images/architecture.svg: the rooms of the package, and which imports which.

    python docs/draw_architecture.py

Everything in it is read from the imports of src/crossband, so that the picture says what is so. Imports under
``if TYPE_CHECKING`` and of a room's own modules are left out.
"""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "crossband"
PICTURE = ROOT / "docs" / "images" / "architecture.svg"

ROOMS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("cli", "the commands: thin functions over the library", ("cli", "__main__", "terminal")),
    ("demo", "what the command demo does", ("demo",)),
    ("reproduce", "tables of papers: planning, running, printing", ("reproduce",)),
    ("many", "very many pairs in parts, on a cluster", ("many",)),
    ("serve", "a page in the browser, and what answers behind it", ("serve",)),
    ("report", "all rendering: text, CSV, JSON, HTML, charts", ("report",)),
    ("testing", "the contract tests that every system passes", ("testing",)),
    ("stream", "two cameras at once: paired by time, dead ones left out", ("stream",)),
    ("annotation", "labels to annotation tools, and back", ("annotation",)),
    (
        "predictor",
        "images in, labels out; what a run is and costs",
        (
            *("predictor", "loading", "prediction", "predicting", "result_folder", "results", "batching"),
            *("info", "recalibration"),
        ),
    ),
    ("training", "recipes resolved, phases through Lightning, resume", ("training",)),
    ("evaluation", "one pass over pairs -> scores, as data", ("evaluation", "robustness")),
    ("export", "graphs for other runtimes, held against PyTorch", ("export",)),
    ("runtime", "what computes: PyTorch, ONNX Runtime, OpenVINO", ("runtime",)),
    (
        "weights",
        "a run folder: weights and card",
        ("weights", "card", "card_words", "run_card", "shared_card", "devices", "hub", "terms"),
    ),
    ("systems", "one place per published system", ("systems",)),
    ("blocks, losses", "what two or more systems use", ("blocks", "losses")),
    ("metrics", "confusion matrices and protocols; fusion metrics", ("metrics",)),
    (
        "pairs",
        "what goes in: files, benchmarks, scenes, loading",
        (
            *("pairs", "pictures", "display", "band_monitor", "trained_monitor", "match_rule"),
            "answer_statistics",
        ),
    ),
    ("rig", "two cameras and the geometry between them", ("rig",)),
    (
        "ground",
        "words, errors, texts, locks: light, without torch (but tensors)",
        (
            *(
                "words",
                "errors",
                "text",
                "tensors",
                "colour",
                "colour_vision",
                "locks",
                "leftovers",
                "filling",
                "plugins",
                "deprecation",
            ),
            *("yaml_files", "option_types", "option_ranges", "option_words"),
            *("recipe", "version", "interruption"),
        ),
    ),
)
"""The rooms from the top down: name, what is in it, its modules and packages. A room imports only from rooms
below it."""


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    named = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = ("crossband", *path.relative_to(SOURCE).with_suffix("").parts)
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return named


def imports(path: Path, known: dict[str, Path]) -> set[str]:
    """The modules of the package that a module imports, anywhere in it, but for type checking alone."""
    found: set[str] = set()
    for node in _run(ast.parse(path.read_text(encoding="utf-8")).body):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("crossband"):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in known else str(node.module))
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("crossband")}
    return found & set(known)


def _run(body: list[ast.stmt]) -> list[ast.AST]:
    """Everything below some statements, without what stands under ``if TYPE_CHECKING``."""
    nodes: list[ast.AST] = []
    waiting: list[ast.AST] = list(body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        nodes.append(node)
        waiting += ast.iter_child_nodes(node)
    return nodes


def room_of(module: str) -> str | None:
    """The room of a module; None for the package's own ``__init__``, which loads its names when asked."""
    parts = module.split(".")
    if len(parts) == 1:
        return None
    for name, _, members in ROOMS:
        if parts[1] in members:
            return name
    raise ValueError(f"{module} is in no room: name it in ROOMS of docs/draw_architecture.py")


def arrows() -> Counter[tuple[str, str]]:
    """How many modules of a room import from another, by the two rooms."""
    known = modules()
    counted: Counter[tuple[str, str]] = Counter()
    for module, path in known.items():
        origin = room_of(module)
        rooms = {room_of(other) for other in imports(path, known)} - {origin, None}
        counted.update((origin, room) for room in rooms if origin is not None and room is not None)
    return counted


def draw() -> str:
    """The picture, as SVG: a column of rooms, and to their right a dot for each room that they use."""
    counted, known = arrows(), modules()
    sizes = Counter(room_of(module) for module in known)
    width, height, left, top, step = 1060, 44, 20, 112, 52
    first = 560
    gap = (width - first - 30) / len(ROOMS)
    total = top + step * len(ROOMS) + 20
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {total}" '
        'font-family="system-ui, sans-serif" role="img" aria-label="Rooms of Crossband and their imports">',
        f'<rect width="{width}" height="{total}" fill="#ffffff"/>',
        f'<text x="{left}" y="28" font-size="17" font-weight="600" fill="#1f2933">'
        "The rooms of crossband</text>",
        f'<text x="{left}" y="52" font-size="12.5" fill="#52606d">'
        "A room imports only from rooms below it.</text>",
        f'<text x="{left}" y="70" font-size="12.5" fill="#52606d">A dot: so many of its modules import from '
        "the room of that column.</text>",
    ]
    places = {name: first + gap * (number + 0.5) for number, (name, _, _) in enumerate(ROOMS)}
    for name, x in places.items():
        lines.append(
            f'<text x="{x + 4:.0f}" y="{top - 8}" font-size="11" fill="#52606d" '
            f'transform="rotate(-40 {x:.0f} {top - 8})">{escape(name)}</text>'
        )
    for number, (name, what, _) in enumerate(ROOMS):
        y = top + step * number
        lines += [
            f'<rect x="{left}" y="{y}" width="{first - left - 20}" height="{height}" rx="7" fill="#eef2f7" '
            'stroke="#9fb3c8"/>',
            f'<text x="{left + 14}" y="{y + 18}" font-size="14" font-weight="600" fill="#102a43">'
            f'{escape(name)}<tspan font-weight="400" fill="#627d98" font-size="11.5">'
            f"  {sizes[name]} module{'' if sizes[name] == 1 else 's'}</tspan></text>",
            f'<text x="{left + 14}" y="{y + 35}" font-size="12" fill="#334e68">{escape(what)}</text>',
            f'<line x1="{first}" y1="{y + height / 2}" x2="{width - 20}" y2="{y + height / 2}" '
            'stroke="#e4e7eb"/>',
        ]
        for other, x in places.items():
            count = counted[name, other]
            if count:
                lines += [
                    f'<circle cx="{x:.0f}" cy="{y + height / 2}" r="11" fill="#2f6f9f"/>',
                    f'<text x="{x:.0f}" y="{y + height / 2 + 4}" font-size="11" fill="#ffffff" '
                    f'text-anchor="middle">{count}</text>',
                ]
            elif other == name:
                lines.append(f'<circle cx="{x:.0f}" cy="{y + height / 2}" r="4" fill="#9fb3c8"/>')
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
    print(f"written: {PICTURE.relative_to(ROOT)}")
