"""What an exported file is, in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crossband.card_words import monitor_words, system_words, variant_words
from crossband.runtime.exported import open_exported


def describe_exported(path: Path) -> str:
    """An exported file or bundle as text for a terminal. Raises WeightsError for what is none."""
    exported = open_exported(path)
    card = exported.card
    system = system_words(card.system, card.variant)
    lines = [f"{system}, exported from weights {card.weights_sha256 or 'none'}", ""]
    for bands, (file, graph) in exported.graphs.items():
        takes = ", ".join(f"{band} {type}" for band, type in graph.types.items())
        lines += [
            f"{bands} ({graph.support}): {file.name}, {graph.format_of_file}, precision {graph.precision}",
            f"  takes {takes}; gives {', '.join(graph.outputs)}",
            f"  made {graph.created} by Crossband {graph.crossband}, opset {graph.opset}, "
            + ", ".join(f"{name} {version}" for name, version in graph.made_with.items()),
        ]
        lines += [f"  checked: {_checked(runtime, found)}" for runtime, found in graph.checked.items()]
        if graph.float_layers:
            lines.append(f"  layers that stay float: {', '.join(graph.float_layers)}")
    if card.variant is not None:
        lines.append(f"variant: {variant_words(card.system, card.variant)}")
    if card.classes is not None:
        names = ", ".join(f"{number} {name}" for number, name in enumerate(card.classes.names))
        lines.append(f"classes: {names}")
    lines += [
        f"infrared scaling: {card.infrared_scaling}, within the graph",
        f"band monitor: {monitor_words(card.monitor)}",
        f"trained by Crossband {card.crossband}, {card.created}",
    ]
    return "\n".join(lines)


def _checked(runtime: str, found: Any) -> str:
    told = {
        name: value
        for name, value in dict(found).items()
        if value is not None and name not in ("runtime", "device", "precision", "data")
    }
    numbers = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in told.items())
    return f"{runtime} against PyTorch on {found.get('data')}: {numbers}"
