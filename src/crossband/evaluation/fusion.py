"""One pass over pairs, scoring the pictures that several methods make of them, side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from crossband.card_words import system_words
from crossband.deprecation import renamed_keyword
from crossband.devices import autocast, find_device
from crossband.errors import BandError, OptionError, PairError
from crossband.evaluation.fusion_result import FusedMethod, FusionEvaluation, FusionExample
from crossband.evaluation.passing import (
    UNSPECIFIED,
    check_exported,
    check_pass,
    condition_name,
    exported_answer,
    pairs_by_condition,
    ready,
)
from crossband.metrics.fusion import CONVENTIONS, DEFAULT_CONVENTION, FusionScores
from crossband.pairs.base import Pairs, WithoutLabels
from crossband.pairs.batch import Batch
from crossband.pairs.loading import evaluation_loader
from crossband.pairs.matching import match_images
from crossband.pairs.reading import read_visible
from crossband.pictures import stretched, to_uint8
from crossband.runtime.exported import Exported
from crossband.systems.base import System
from crossband.words import BANDS, BANDS_ALONE, Band, Precision


class HoldsSystem(Protocol):
    """Something with a system in it, such as a `crossband.Predictor`."""

    system: System | Exported


Fuse = Callable[[Batch], np.ndarray]
"""From a batch of pairs to their fused pictures as a file would hold them: uint8 (B, 3, H, W)."""


@dataclass
class _Method:
    """A method while the pass runs. band: whose image it gives as it is; None if it fuses. full_range: how
    many of its pictures so far hold both 0 and 255.
    """

    origin: str
    stretched: bool | None
    fuse: Fuse
    scores: FusionScores
    band: Band | None
    full_range: int = 0

    def score(self, batch: Batch, sources: Sequence[np.ndarray]) -> np.ndarray:
        """Fuse a batch, keep its scores, and return the pictures."""
        fused = self.fuse(batch)
        self.full_range += _spanning(fused)
        self.scores.update(*map(torch.from_numpy, (fused, *sources)))
        return fused


@renamed_keyword("preset", "convention")
def evaluate_fusion(
    methods: Mapping[str, System | Exported | HoldsSystem | Path | Band],
    pairs: Pairs,
    *,
    convention: str = DEFAULT_CONVENTION,
    metrics: Sequence[str] | None = None,
    stretch: bool = False,
    bands_alone: bool = True,
    by: Literal["condition"] | None = "condition",
    examples: int = 6,
    workers: int = 0,
    batch_size: int = 1,
    device: str | torch.device = "cpu",
    precision: Precision = "float32",
    progress: Callable[[int, int], None] | None = None,
) -> FusionEvaluation:
    """Score fused pictures against the pairs that they were made from; every pair is read once.

    What is scored is the 8-bit picture that `crossband fuse` would save, in grey, and both bands in 8 bits.
    Values are per picture, in float64. Labels are not looked at.

    methods: by the name that tables show: a system, a predictor (whose system is taken: the pairs must have
        been opened with its card's infrared scaling), a folder of fused pictures under the names of the
        pairs, with any suffix, or "visible" or "infrared", the image of that band as it is.
    convention, metrics: a name of `CONVENTIONS`, and which of its metrics; as for
        `crossband.metrics.fusion_scores`.
    stretch: stretch each picture of a system to the whole of 0..255, as `crossband fuse --stretch` does.
    bands_alone: score the image of each band by itself beside the methods, as `BANDS_ALONE` calls them: a
        fusion is often no better than one of them.
    by: "condition" gives scores by day, night, ... as well where the pairs tell; None does not.
    examples: of how many pairs the pictures are kept, evenly from the list and from every condition.
    batch_size: pairs per forward pass; only pairs of one size share one.
    device: where to fuse and to score; systems are brought there and back, in eval mode meanwhile.
    precision: that of autocast when fusing, "float32" being without.
    progress: called with (pairs done, pairs in all) after every batch.

    Raises BandError if the pairs lack a band or a system cannot run on both, PairError for a folder whose
    pictures are not those of the pairs, OptionError for a system that does not fuse or gives NaN, for names
    and devices that do not exist, and for methods without names.
    """
    check_pass(pairs, by, precision)
    if not isinstance(methods, Mapping):
        raise OptionError(
            f"methods is a {type(methods).__name__}: give each by a name, as {{'mine': system}}"
        )
    if not methods:
        raise OptionError("nothing to score: name a run, a system that fuses, or a folder of fused pictures")
    if set(pairs.bands) != set(BANDS):
        raise BandError(
            f"{pairs.source} has only {' and '.join(pairs.bands)} images, but fused pictures are scored "
            "against both bands"
        )
    device = find_device(device)
    if bands_alone:
        methods = {**methods, **{name: band for name, band in BANDS_ALONE.items() if name not in methods}}
    names = [pairs.name(index) for index in range(len(pairs))]
    known = [pairs.condition(index) for index in range(len(pairs))]
    conditions = [condition_name(condition) for condition in known] if by else []
    shown = spread_evenly(known, examples)
    seen: list[FusionExample] = []
    done = 0
    full_range = Counter[str]()
    with ExitStack() as stack:
        running: dict[str, _Method] = {}
        for name, method in methods.items():
            band: Band | None = None
            if isinstance(method, Path):
                origin, stretching, fuse = str(method), None, _reading(method, names)
            elif isinstance(method, str):
                origin, stretching, fuse = f"the {method} image", False, _band_alone(method)
                band = method
            else:
                system = _fusing_system(method)
                check_exported(system, precision, pairs)
                stack.enter_context(ready(system, device))
                origin, stretching = system_words(system.name, system.variant), stretch
                fuse = _fusing(system, stretch, device, precision)
            scores = FusionScores(convention, metrics=metrics, device=device)
            running[name] = _Method(origin, stretching, fuse, scores, band)
        for batch in evaluation_loader(WithoutLabels(pairs), batch_size=batch_size, workers=workers):
            _check_seen(batch)
            sources = [to_uint8(_present(getattr(batch, band)).numpy()) for band in BANDS]
            full_range.update({band: _spanning(image) for band, image in zip(BANDS, sources, strict=True)})
            fused = {name: method.score(batch, sources) for name, method in running.items()}
            drawn = {name: pictures for name, pictures in fused.items() if running[name].band is None}
            members = [member for member in range(len(batch.names)) if done + member in shown]
            seen += [_example(batch, member, sources, drawn) for member in members]
            done += len(batch.names)
            if progress is not None:
                progress(done, len(pairs))
    return FusionEvaluation(
        source=pairs.source,
        split=pairs.split,
        convention=CONVENTIONS[convention],
        pairs=names,
        conditions=conditions if pairs_by_condition(Counter(conditions)) else [],
        methods={
            name: FusedMethod(
                method.origin, method.stretched, method.full_range, method.scores.values, method.band
            )
            for name, method in running.items()
        },
        sources_full_range={band: full_range[band] for band in BANDS},
        examples=seen,
    )


def _fusing_system(method: System | Exported | HoldsSystem) -> System | Exported:
    """The system of a method. Raises OptionError if it does not fuse, BandError if it cannot run on both."""
    system = method if isinstance(method, System | Exported) else method.system
    if not system.fuses:
        raise OptionError(
            f"{system.name} gives no fused picture, so there is nothing to score: name a system that fuses"
        )
    system.check_bands("both")
    return system


def _fusing(
    system: System | Exported, stretch: bool, device: str | torch.device, precision: Precision
) -> Fuse:
    if isinstance(system, Exported):
        return partial(_exported_pictures, system, stretch)

    def fuse(batch: Batch) -> np.ndarray:
        visible, infrared = (_present(getattr(batch, band)).to(device) for band in BANDS)
        with torch.inference_mode(), autocast(device, precision):
            fused = system(visible, infrared).fused
        if fused is None or fused.isnan().any():
            # Rounding to 8 bits would turn NaN into a level, and the scores would not show it.
            what = "no fused picture" if fused is None else "NaN"
            raise OptionError(
                f"{system.name} gave {what} for {', '.join(batch.names)}: use precision float32; if that "
                "does not help, its training diverged"
            )
        pictures = to_uint8(fused.float().cpu().numpy())
        return np.stack([stretched(picture) for picture in pictures]) if stretch else pictures

    return fuse


def _band_alone(band: Band) -> Fuse:
    """The image of one band as it is. Raises OptionError for another name."""
    if band not in BANDS:
        raise OptionError(f"{band!r} is no band: use {' or '.join(BANDS)}, a system, or a folder as a Path")

    def fuse(batch: Batch) -> np.ndarray:
        image = to_uint8(_present(getattr(batch, band)).numpy())
        return np.repeat(image, 3, axis=1) if image.shape[1] == 1 else image

    return fuse


def _exported_pictures(system: Exported, stretch: bool, batch: Batch) -> np.ndarray:
    fused = exported_answer(system, batch).fused
    assert fused is not None
    pictures = np.ascontiguousarray(fused.transpose(0, 3, 1, 2))
    return np.stack([stretched(picture) for picture in pictures]) if stretch else pictures


def _reading(folder: Path, names: Sequence[str]) -> Fuse:
    """Fused pictures from files. Raises PairError unless the folder has exactly one for every name."""
    if not folder.is_dir():
        raise PairError(f"{folder}: there is no such folder of fused pictures")
    paths = {files.name: files.visible for files in match_images(folder, None)}
    missing = [name for name in names if name not in paths]
    strangers = sorted(set(paths) - set(names))
    if missing or strangers:
        told = (
            [f"{len(missing)} of {len(names)} pairs have no picture ({_first(missing)})"] if missing else []
        )
        told += [f"{len(strangers)} pictures are no pair's ({_first(strangers)})"] if strangers else []
        raise PairError(
            f"{folder}: {' and '.join(told)}; pictures must have the names of the pairs of the scored split"
        )

    def fuse(batch: Batch) -> np.ndarray:
        height, width = _present(batch.visible).shape[-2:]
        pictures = []
        for name in batch.names:
            path = paths[name]
            assert path is not None
            picture = to_uint8(read_visible(path))
            if picture.shape[:2] != (height, width):
                raise PairError(
                    f"{path} is {picture.shape[0]} x {picture.shape[1]}, but pair {name!r} is "
                    f"{height} x {width} (height x width); fused pictures must have the size of their pair"
                )
            pictures.append(picture.transpose(2, 0, 1))
        return np.stack(pictures)

    return fuse


def _first(names: Sequence[str], count: int = 3) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")


def _check_seen(batch: Batch) -> None:
    """Raises OptionError where only one camera of a rig saw a part of an image: metrics would score its
    edges.
    """
    if batch.valid is None:
        return
    for name, seen in zip(batch.names, batch.valid, strict=True):
        if not bool(seen.all()):
            raise OptionError(
                f"pair {name!r} has pixels that only one camera of the rig saw, which no metric of fused "
                "pictures can leave out; score in the frame of the camera that sees less (--frame infrared, "
                "mostly)"
            )


def _present(image: Tensor | None) -> Tensor:
    # That the pairs have both bands was checked before the pass.
    assert image is not None
    return image


def _spanning(images: np.ndarray) -> int:
    """How many images of a batch (B, ...) hold both 0 and 255."""
    flat = images.reshape(len(images), -1)
    return int(((flat.min(axis=1) == 0) & (flat.max(axis=1) == 255)).sum())


def _example(
    batch: Batch, member: int, sources: Sequence[np.ndarray], fused: Mapping[str, np.ndarray]
) -> FusionExample:
    visible, infrared = (images[member] for images in sources)
    return FusionExample(
        pair=batch.names[member],
        condition=batch.conditions[member] or "",
        visible=_as_picture(visible),
        infrared=infrared[0],
        fused={name: _as_picture(pictures[member]) for name, pictures in fused.items()},
    )


def _as_picture(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image.transpose(1, 2, 0))


def spread_evenly(conditions: Sequence[str | None], count: int) -> set[int]:
    """So many indices, shared out evenly among the conditions, and within each spread over its members."""
    groups: dict[str, list[int]] = {}
    for index, condition in enumerate(conditions):
        groups.setdefault(condition or UNSPECIFIED, []).append(index)
    # Turn by turn one from each condition, until there are enough or none is left.
    turns = zip_longest(*([name] * len(members) for name, members in sorted(groups.items())))
    order = [name for turn in turns for name in turn if name is not None]
    shares = Counter(order[: max(count, 0)])
    return {
        groups[name][(2 * turn + 1) * len(groups[name]) // (2 * share)]
        for name, share in shares.items()
        for turn in range(share)
    }
