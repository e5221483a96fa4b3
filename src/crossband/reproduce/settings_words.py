"""Settings from the words of the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from crossband.errors import OptionError
from crossband.pairs.benchmarks import BENCHMARKS
from crossband.pairs.opening import parse_source
from crossband.recipe import Recipe
from crossband.reproduce.settings import Settings
from crossband.words import Budget

SCENES = "scenes,seed=0,train=128,val=0,test=60,size=96x128"
"""The generated scenes of ``--on scenes``: small, so that a table is filled on a CPU."""


def read_settings(
    *,
    budget: Budget,
    data: list[str],
    on: str | None,
    encoder: str | None,
    encoder_weights: list[str],
    recipe: Mapping[str, Any],
    test_split: str,
    devices: int = 1,
) -> Settings:
    """Settings from the words of the command line.

    data: sources of benchmarks. on: "scenes" for `SCENES`, or a source ``scenes,...`` or ``folder:PATH``.
    encoder_weights: "imagenet", "none" or a path for all encoders, or ``ENCODER=`` and one of these. Encoders
    that none of them speaks of start from ImageNet weights under "paper", as in the papers, and at random
    under "quick".

    Raises OptionError for what does not exist or does not go together.
    """
    if test_split == "train":
        raise OptionError("--test_split train would score the pairs that were trained on; name another split")
    if on is not None and data:
        raise OptionError("--on takes the place of all benchmarks: leave out --data, or --on")
    sources: dict[str, str] = {}
    for text in data:
        source = parse_source(text)
        if source.name not in BENCHMARKS:
            raise OptionError(
                f"--data {text}: the tables are about benchmarks ({', '.join(BENCHMARKS)}); to fill them on "
                "other data write --on instead"
            )
        if source.name in sources:
            raise OptionError(f"--data names {source.name} twice; give each benchmark once")
        sources[source.name] = _absolute(text)
    if on is not None:
        on = SCENES if on == "scenes" else on
        if parse_source(on).name in BENCHMARKS:
            raise OptionError(
                f"--on {on}: is for scenes and folders, where printed figures do not apply; for a benchmark "
                "write --data"
            )
        on = _absolute(on)
    Recipe().replace(recipe)  # Refuses what a recipe does not have.
    starts = {"": "imagenet"} if budget == "paper" else {}
    for text in encoder_weights:
        name, equals, source_of = text.partition("=")
        starts |= {name: _place(source_of)} if equals else {"": _place(text)}
    return Settings(
        budget=budget,
        data=sources,
        on=on,
        encoder=encoder,
        encoder_weights=starts,
        recipe=dict(recipe),
        test_split=test_split,
        devices=devices,
    )


def _absolute(text: str) -> str:
    """A source with its path made absolute: workers may have started elsewhere."""
    source = parse_source(text)
    return text if source.path is None else str(replace(source, path=source.path.resolve()))


def _place(text: str) -> str:
    return text if text in ("imagenet", "none") else str(Path(text).expanduser().resolve())
