"""A run's model card: Markdown with the head that the Hugging Face Hub reads."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from crossband.card import Card
from crossband.card_words import system_words, training_words
from crossband.errors import CrossbandWarning
from crossband.shared_card import source_name, without_folders
from crossband.systems.registry import in_words, is_own_variant, list_systems, origin, without_encoder
from crossband.terms import Licence, check_licence, data_terms, encoder_terms, restrictions
from crossband.text import markdown_table, percent
from crossband.words import BANDS, PRECISIONS
from crossband.yaml_files import yaml_text

_TAGS = ["crossband", "infrared", "thermal", "visible-infrared"]
_MONITORED = (
    "It has a band monitor: `cb.load(..., monitor=True)` leaves a band out that is broken, or without which "
    "the answer is better. It does not find every fault.",
)
_SCORED_MONITORED = (
    "Where it says band monitor, the run was scored as `cb.load(..., monitor=True)` gives it, which leaves a "
    "band out of pairs where it does harm."
)
_NO_LABELS = (
    "It gives no labels, so that there is no mean IoU. `crossband evaluate --fusion` scores its pictures."
)


def model_card(
    card: Card, folder: Path, *, licence: str | Licence, place: str = "hf://OWNER/NAME@COMMIT"
) -> str:
    """The model card of a run, from its card and from the evaluations in its folder.

    licence: of the weights; the hub's name for it, such as ``apache-2.0``, is enough. place: where it can
    be loaded from.
    Raises OptionError for a licence that the hub does not know or the origin of the weights does not allow.
    """
    licence = Licence(licence) if isinstance(licence, str) else licence
    check_licence(card, licence.key)
    card = without_folders(card)
    segments = card.classes is not None
    head = {
        "library_name": "crossband",
        **licence.to_fields(),
        "pipeline_tag": "image-segmentation" if segments else "image-to-image",
        "tags": [*_TAGS, card.system, *(["image-segmentation"] if segments else ["image-fusion"])],
    }
    parts = [
        f"---\n{yaml_text(head)}---",
        f"# {_title(card)}",
        _what(card),
        "## Use",
        _use(card, place),
        "## Bands",
        markdown_table(
            ["bands", "support", "parameters"],
            [[bands, support, f"{card.parameters.get(bands, 0):,}"] for bands, support in card.bands.items()],
        ),
        "A fallback is a use that the system runs on but was not designed for.",
        f"Inputs: {card.channels}. Infrared is scaled by `{card.infrared_scaling}`.",
        *(_MONITORED if card.monitor is not None else ()),
    ]
    if card.classes is not None:
        rows = [
            [str(index), name, "#" + bytes(colour).hex()]
            for index, (name, colour) in enumerate(zip(card.classes.names, card.classes.palette, strict=True))
        ]
        parts += ["## Classes", markdown_table(["id", "class", "colour"], rows)]
    parts += ["## Scores", *(_scores(folder) if segments else [_NO_LABELS])]
    words = training_words(card.training)
    if words:
        parts += ["## Training", "\n".join(f"- {name}: {text}" for name, text in words.items())]
    parts += [
        "## Terms",
        f"The weights are published under {_in_words(licence)}.",
        encoder_terms(card),
        data_terms(card),
    ]
    if reasons := restrictions(card):
        parts.append(f"Not for commercial use: {'; '.join(reasons)}.")
    parts += [
        "## Limits",
        "Scores are those of the pairs named above, and of no other cameras, places or seasons. The softmax "
        "of a class is not a calibrated probability. Nobody has checked these weights for use where a "
        "mistake harms.",
        f"Made by Crossband {card.crossband}, revision {card.git_revision or 'unknown'}, torch {card.torch}, "
        f"{card.created}. SHA-256 of the weights: `{card.weights_sha256 or 'unknown'}`.",
    ]
    return "\n\n".join(parts) + "\n"


def _in_words(licence: Licence) -> str:
    name = f"`{licence.name or licence.key.lower()}`"
    return name if licence.link is None else f"[{name}]({licence.link})"


def _title(card: Card) -> str:
    none = without_encoder(card.system, segments=card.classes is not None)
    encoder = None if none else card.network.get("encoder")
    return f"{system_words(card.system, card.variant)}{f' with {encoder}' if encoder else ''}"


def _what(card: Card) -> str:
    if card.system not in list_systems() or origin(card.system) != "crossband":
        return f"A run of the system `{card.system}`, which is not one of Crossband's own."
    summary, paper = in_words(card.system)
    told = f"{summary}. Paper: {paper}. Cite it if you use these weights."
    if is_own_variant(card.system, card.variant):
        told += f" The variant `{card.variant}` is Crossband's own: its scores are not the paper's method's."
    return told


def _use(card: Card, place: str) -> str:
    given = [f'{band}="{band}.png"' for band in BANDS if {"both", band} & set(card.bands)]
    either = "  # either may be None" if set(BANDS) <= set(card.bands) else ""
    answer = "result.labels, result.confidence" if card.classes is not None else "result.fused"
    return (
        "```python\nimport crossband as cb\n\n"
        f'predictor = cb.load("{place}")\n'
        f"result = predictor({', '.join(given)}){either}\n"
        f"{answer}\n```\n\n"
        "The weights are safetensors; nothing is unpickled."
    )


def _scores(folder: Path) -> list[str]:
    """A table of every evaluation of labels that lies in the run's folder, or that there is none."""
    rows = []
    for path in sorted(folder.glob("evaluation-*/evaluation.json")):
        try:
            rows += _rows(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            warnings.warn(
                f"{path} holds no evaluation of ours, and the model card leaves it out: score the run again",
                CrossbandWarning,
                stacklevel=2,
            )
    if not rows:
        return ["None were made with this run's own command, `crossband evaluate`."]
    table = markdown_table(["data", "split", "pairs", "bands", "mean IoU (%)", "95 % interval"], rows)
    return [
        table,
        *((_SCORED_MONITORED,) if any("band monitor" in row[3] for row in rows) else ()),
        "Protocol `present`: the mean over the classes that occur in the labels. The interval is over pairs; "
        "it does not say what another training would give.",
    ]


def _rows(document: dict[str, Any]) -> list[list[str]]:
    rows = []
    for bands, found in document["results"].items():
        score = found["overall"]["mean_iou"]["present"]["value"]
        bounds = (found.get("mean_iou_interval") or {}).get("present")
        marks = ["fallback"] if found["support"] == "fallback" else []
        # Of pairs of one band it leaves nothing out.
        marks += ["band monitor"] if bands == "both" and "dropped" in found else []
        if (precision := document.get("precision", PRECISIONS[0])) != PRECISIONS[0]:
            marks.append(str(precision))
        support = f"{bands} ({', '.join(marks)})" if marks else bands
        rows.append(
            [
                source_name(str(document["source"])),
                str(document["split"]),
                str(document["pairs"]),
                support,
                "–" if score is None else percent(score),
                "–" if not bounds else f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f}",
            ]
        )
    return rows
