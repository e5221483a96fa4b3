"""What may be done with trained weights, as far as their card tells: the terms of what they were made of.

Crossband cannot know the law. It knows which encoders' published weights, and which benchmarks, their authors
keep from commercial use, and does not let weights that carry these be called free for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from crossband.card import Card
from crossband.errors import OptionError, did_you_mean, quoted
from crossband.pairs.benchmarks import BENCHMARKS
from crossband.pairs.opening import parse_source
from crossband.systems.registry import without_encoder
from crossband.text import listed

NON_COMMERCIAL = ("cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0", "other")
"""The licences, by the Hugging Face Hub's names, that weights of restricted origin may be given."""

HUB_LICENCES = (
    *("apache-2.0", "mit", "openrail", "bigscience-openrail-m", "creativeml-openrail-m"),
    *("bigscience-bloom-rail-1.0", "bigcode-openrail-m", "afl-3.0", "artistic-2.0", "bsl-1.0", "bsd"),
    *("bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "c-uda", "cc", "cc0-1.0", "cc-by-2.0"),
    *("cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0"),
    *("cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0"),
    *("cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cdla-sharing-1.0"),
    *("cdla-permissive-1.0", "cdla-permissive-2.0", "wtfpl", "ecl-2.0", "epl-1.0", "epl-2.0"),
    *("etalab-2.0", "eupl-1.1", "eupl-1.2", "agpl-3.0", "gfdl", "gpl", "gpl-2.0", "gpl-3.0", "lgpl"),
    *("lgpl-2.1", "lgpl-3.0", "isc", "h-research", "intel-research", "lppl-1.3c", "ms-pl", "apple-ascl"),
    *("apple-amlr", "mpl-2.0", "odc-by", "odbl", "openmdw-1.0", "openrail++", "osl-3.0", "postgresql"),
    *("ofl-1.1", "ncsa", "unlicense", "zlib", "pddl", "lgpl-lr", "deepfloyd-if-license"),
    *("fair-noncommercial-research-license", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3"),
    *("llama4", "grok2-community", "gemma", "unknown", "other"),
)
"""What the Hugging Face Hub takes as a licence, as its refusals listed it in May 2026 (issue 4218 of
huggingface_hub). It refuses a model card that names another one, after the repository was made."""

_OTHER = "other"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_ADDRESS = re.compile(r"https?://[^\s/]+\S*")
_FILES = ("LICENSE", "LICENSE.md")

_LICENCE = "encoder_licence"
"""Of a card's ``training``, and so of `made_of`: see `kept_licence`. Earlier versions kept none."""

_RESEARCH_LICENCES = ("apple-amlr", "seer-license")
"""Licences for research alone whose names do not say so: Apple's for models, and SEER's."""


def encoder_terms(card: Card) -> str:
    """The terms of the weights that the encoder, or the network, started from, in words."""
    if card.encoder_origin is None and card.training.get("start_from"):
        return "The network started at the weights of another run, whose terms hold as well."
    if without_encoder(card.system, segments=card.classes is not None):
        return "The network started from random weights, which have no terms."
    return f"The encoder {_of_encoder(made_of(card))}"


def data_terms(card: Card) -> str:
    """The terms of the pairs that the network was trained on, in words."""
    said = f"The network was trained on {_of_data(made_of(card))}"
    chosen = card.training.get("checkpoint")
    phases = chosen.items() if isinstance(chosen, dict) else ()
    reused = [phase for phase, how in phases if isinstance(how, dict) and "reused" in how]
    if reused:
        said += f" Phase {listed(reused)} comes from another run, whose terms hold as well."
    if recalibrated := _recalibrated_on(card):
        said += f" The statistics of its batch norms were taken from {_of_data(recalibrated)}"
    for other in taken_over(card):
        said += (
            f" It took over weights that were trained on {_of_data(other)} Their encoder {_of_encoder(other)}"
        )
    return said


def made_of(card: Card) -> dict[str, Any]:
    """What a run's own weights were made of, and the terms go by."""
    kept = {_LICENCE: card.training[_LICENCE]} if _LICENCE in card.training else {}
    return {
        "data": card.training.get("data"),
        "encoder": card.network.get("encoder"),
        "encoder_origin": card.encoder_origin,
        **kept,
    }


def kept_licence(network: Mapping[str, Any], encoder_origin: str | None) -> dict[str, str | None]:
    """What a card's ``training`` keeps of an encoder's weights when a training starts from them: the licence
    that timm states for them then, None where it states none. Empty for a random start.

    network: the network's options. Raises OptionError where timm is not installed.
    """
    if encoder_origin is None or network.get("encoder") is None:
        return {}
    return {_LICENCE: _published_licence(str(network["encoder"]))}


def taken_over(card: Card) -> list[dict[str, Any]]:
    """`made_of` of the runs that a run took weights over from, and of those that these took theirs from.

    Empty for a card of an earlier version, which does not tell.
    """
    kept = card.training.get("origins")
    return [other for other in (kept if isinstance(kept, list) else []) if isinstance(other, dict)]


def restrictions(card: Card) -> list[str]:
    """Why weights may not be used commercially; empty where nothing is known against it.

    Raises OptionError where an encoder's licence was not kept when it was trained, and timm, which is then
    asked, is not installed.
    """
    own, found = made_of(card), []
    if _started_restricted(own):
        found.append(f"its encoder {own['encoder']} started from non-commercial weights")
    if title := _research_only(own):
        found.append(f"it was trained on {title}, which is for research only")
    if title := _research_only(_recalibrated_on(card)):
        found.append(f"the statistics of its batch norms come from {title}, which is for research only")
    for other in taken_over(card):
        if _started_restricted(other):
            found.append(
                f"it took over an encoder {other['encoder']} that started from non-commercial weights"
            )
        if title := _research_only(other):
            found.append(f"it took over weights that were trained on {title}, which is for research only")
    return found


@dataclass(frozen=True)
class Licence:
    """Under which weights are published. key: the hub's name for it. name, link: of one that the hub has no
    name for, whose key is ``other``: what it is called, and where its text is, an address or ``LICENSE`` for
    a file beside the model card.
    """

    key: str
    name: str | None = None
    link: str | None = None

    def to_fields(self) -> dict[str, str]:
        """As the head of a model card has it: the hub knows keys in lower case alone.

        Raises OptionError for a name or a link of a licence that the hub names itself, and for one that it
        would refuse.
        """
        fields = {"license": self.key.lower()}
        if self.name is None and self.link is None:
            return fields
        if fields["license"] != _OTHER:
            raise OptionError(
                f"license_name and license_link are for --license {_OTHER}: {self.key} has its own on the hub"
            )
        if self.name is None:
            raise OptionError("license_link is of a licence that has a name: give license_name too")
        if not _NAME.fullmatch(self.name):
            raise OptionError(
                f"license_name: small letters, digits, '.', '_' and '-', such as our-licence-1.0, not "
                f"{quoted(self.name)}"
            )
        if self.link is not None and self.link not in _FILES and not _ADDRESS.fullmatch(self.link):
            raise OptionError(
                f"license_link: an address (https://...) or {' or '.join(_FILES)} for a file beside the "
                f"model card, not {quoted(self.link)}"
            )
        told = {"license_name": self.name, "license_link": self.link}
        return fields | {key: value for key, value in told.items() if value is not None}


def check_licence(card: Card, licence: str) -> None:
    """Raise OptionError for a licence that the hub does not know, by any case of its letters, and where
    weights of restricted origin would be declared free for commercial use."""
    if licence.lower() not in HUB_LICENCES:
        raise OptionError(
            f"the Hugging Face Hub knows no licence {quoted(licence)}: name one such as apache-2.0 or "
            "cc-by-nc-4.0 (all: https://huggingface.co/docs/hub/repositories-licenses), or other for one "
            f"that it has no name for{did_you_mean(licence, HUB_LICENCES)}"
        )
    reasons = restrictions(card)
    if reasons and licence.lower() not in NON_COMMERCIAL:
        raise OptionError(
            f"these weights cannot be published under {licence}: {'; '.join(reasons)}. Name one of "
            f"{', '.join(NON_COMMERCIAL)}"
        )


def _recalibrated_on(card: Card) -> dict[str, Any]:
    """The pairs that the statistics of batch norms were taken anew from, as in `made_of`; empty for none."""
    told = card.training.get("recalibrated")
    return {"data": told.get("data")} if isinstance(told, dict) else {}


def _of_encoder(made: Mapping[str, Any]) -> str:
    """What an encoder started from, and under which terms, as the end of a sentence that names it."""
    origin = made.get("encoder_origin")
    if origin is None:
        return "started from random weights, which have no terms."
    started = f"{made.get('encoder') or 'unknown'} started from {origin}. "
    encoder = str(made.get("encoder"))
    if _is_mix_transformer(encoder):
        return started + (
            "The published weights of Mix Transformers are under NVIDIA's source code licence: for research, "
            "not for commercial use."
        )
    licence = _licence(made)
    known = "Crossband does not know"
    if licence is not None:
        known = f"timm states as {licence} for this encoder's usual weights"
        known += ", not for commercial use" if _is_restricted(licence) else ""
    return started + (
        f"Their licence is that of whoever published them, which {known}; weights from ImageNet carry what "
        "ImageNet's terms ask for."
    )


def _of_data(made: Mapping[str, Any]) -> str:
    """What was trained on, and under which terms, as the end of a sentence."""
    name = _source_name(str(made.get("data") or ""))
    if name == "scenes":
        return "generated scenes, which have no terms."
    if name in BENCHMARKS:
        benchmark = BENCHMARKS[name]
        return f"{benchmark.title} ({benchmark.url}). Its terms: {benchmark.terms}"
    return "pairs whose terms Crossband does not know."


def _started_restricted(made: Mapping[str, Any]) -> bool:
    """Whether an encoder started from weights whose authors keep them from commercial use.

    By its name alone: what a local file holds is taken to be what is published under that name.
    """
    if made.get("encoder_origin") is None:
        return False
    encoder = str(made.get("encoder"))
    return _is_mix_transformer(encoder) or _is_restricted(_licence(made) or "")


def _is_mix_transformer(encoder: str) -> bool:
    return encoder.startswith("mit_")


def _licence(made: Mapping[str, Any]) -> str | None:
    """The licence of an encoder's usual weights: as it was kept, else as timm states it now."""
    kept = made.get(_LICENCE, False)
    return kept if kept is None or isinstance(kept, str) else _published_licence(str(made.get("encoder")))


def _published_licence(encoder: str) -> str | None:
    """As `crossband.blocks.encoders.published_licence`. Raises OptionError where timm is not installed."""
    if find_spec("timm") is None:
        raise OptionError(
            f"the licence of the weights of encoder {encoder} is looked up in timm, which is not installed: "
            "pip install 'crossband[train]'"
        )
    # Late: a card of what started at random needs neither timm nor PyTorch, which take seconds.
    from crossband.blocks.encoders import published_licence

    return published_licence(encoder)


def _is_restricted(licence: str) -> bool:
    """Whether a licence, by the name that timm gives it, is for research or against commercial use."""
    words = licence.lower().split("-")
    return "nc" in words or "noncommercial" in words or licence in _RESEARCH_LICENCES


def _research_only(made: Mapping[str, Any]) -> str | None:
    """The name of the benchmark that was trained on, where that is for research only."""
    name = _source_name(str(made.get("data") or ""))
    return BENCHMARKS[name].title if name in BENCHMARKS and BENCHMARKS[name].research_only else None


def _source_name(source: str) -> str:
    try:
        return parse_source(source).name
    except OptionError:
        return ""
