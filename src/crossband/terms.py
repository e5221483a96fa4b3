"""What may be done with trained weights, as far as their card tells: the terms of what they were made of.

Crossband cannot know the law. It knows which encoders' published weights, and which benchmarks, their authors
keep from commercial use, and does not let weights that carry these be called free for it.
"""

from __future__ import annotations

from crossband.card import Card
from crossband.errors import OptionError
from crossband.pairs.benchmarks import BENCHMARKS
from crossband.pairs.opening import parse_source
from crossband.text import listed

NON_COMMERCIAL = ("cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0", "other")
"""The licences, by the Hugging Face Hub's names, that weights of restricted origin may be given."""


def encoder_terms(card: Card) -> str:
    """The terms of the weights that the encoder started from, in words."""
    if card.encoder_origin is None:
        return "The encoder started from random weights, which have no terms."
    encoder = card.network.get("encoder", "unknown")
    if _is_mix_transformer(card):
        return (
            f"The encoder {encoder} started from {card.encoder_origin}. The published weights of Mix "
            "Transformers are under NVIDIA's source code licence: for research, not for commercial use."
        )
    return (
        f"The encoder {encoder} started from {card.encoder_origin}. Their licence is that of whoever "
        "published them, which Crossband does not know; weights from ImageNet carry what ImageNet's "
        "terms ask for."
    )


def data_terms(card: Card) -> str:
    """The terms of the pairs that the network was trained on, in words."""
    name = _source_name(str(card.training.get("data", "")))
    if name == "scenes":
        said = "The network was trained on generated scenes, which have no terms."
    elif name in BENCHMARKS:
        benchmark = BENCHMARKS[name]
        said = f"The network was trained on {benchmark.title} ({benchmark.url}). Its terms: {benchmark.terms}"
    else:
        said = "The network was trained on pairs whose terms Crossband does not know."
    chosen = card.training.get("checkpoint")
    phases = chosen.items() if isinstance(chosen, dict) else ()
    reused = [phase for phase, how in phases if isinstance(how, dict) and "reused" in how]
    if reused:
        said += f" Phase {listed(reused)} comes from another run, whose terms hold as well."
    return said


def restrictions(card: Card) -> list[str]:
    """Why weights may not be used commercially; empty where nothing is known against it."""
    found = []
    if _is_mix_transformer(card):
        found.append(f"its encoder {card.network['encoder']} started from non-commercial weights")
    name = _source_name(str(card.training.get("data", "")))
    if name in BENCHMARKS and BENCHMARKS[name].research_only:
        found.append(f"it was trained on {BENCHMARKS[name].title}, which is for research only")
    return found


def check_licence(card: Card, licence: str) -> None:
    """Raise OptionError where weights of restricted origin would be declared free for commercial use."""
    reasons = restrictions(card)
    if reasons and licence.lower() not in NON_COMMERCIAL:
        raise OptionError(
            f"these weights cannot be published under {licence}: {'; '.join(reasons)}. Name one of "
            f"{', '.join(NON_COMMERCIAL)}"
        )


def _is_mix_transformer(card: Card) -> bool:
    return card.encoder_origin is not None and str(card.network.get("encoder", "")).startswith("mit_b")


def _source_name(source: str) -> str:
    try:
        return parse_source(source).name
    except OptionError:
        return ""
