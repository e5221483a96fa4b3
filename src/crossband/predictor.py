"""Images in, labels and pictures out: trained weights, ready to use."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from crossband.answer_statistics import leave_unseen_out
from crossband.band_monitor import PairMonitor, bands_left, faults_of
from crossband.batching import in_batches, stacked
from crossband.card import Card
from crossband.deprecation import warn_old
from crossband.errors import OptionError, PairError, quoted
from crossband.option_types import check_arguments
from crossband.pairs.arrays import ImageLike, infrared_levels, joined, visible_array, with_bands
from crossband.pairs.auto_scaling import AUTO, automatic_scaling
from crossband.pairs.band_summary import PairsSummary, summarise_files, summarise_image, summarise_pairs
from crossband.pairs.base import Listed, Pair, PairFiles, bands_of
from crossband.pairs.false_colour import REFUSE, check_false_colour, infrared_channel
from crossband.pairs.infrared_scaling import InfraredScaling
from crossband.pairs.reading import read_pair
from crossband.pairs.registration import registration_of
from crossband.pairs.suspicions import Suspicion, suspicions
from crossband.prediction import Prediction
from crossband.run_card import trained_on
from crossband.runtime.choosing import runtime_of
from crossband.runtime.exported import Exported, warn_of_rig
from crossband.words import Band, Bands, Fault, OnError, Precision

if TYPE_CHECKING:
    import torch

    from crossband.runtime.tiling import Tiling
    from crossband.systems.base import System

Item = TypeVar("Item")

_ARGUMENTS = {"monitor": bool, "bands": Bands | None, "on_error": OnError}
_MOVED = {
    "predict_files": "crossband.predicting",
    "fuse_files": "crossband.predicting",
    "load": "crossband.loading",
}


class Predictor:
    """Runs a system on images.

    Scaling, normalisation, padding and cropping are those of the card, so that an image is treated as it was
    in training.

    scaling: the rule that reads infrared. Where the card says "auto" it is None until the first infrared
    image, or the first batch of files, has settled it (`automatic_scaling`); then it stays, so that equal
    values stay equal from image to image.
    """

    scaling: InfraredScaling | None

    def __init__(
        self,
        system: System | Exported,
        card: Card,
        *,
        device: str | torch.device | None = None,
        false_colour: str = REFUSE,
        precision: Precision = "float32",
        tiling: Tiling | None = None,
        compiled: bool = False,
        origin: str | Path | None = None,
        chosen: str | None = None,
        rig: str | Path | None = None,
        frame: Band | None = None,
        monitor: bool = False,
        bands: Bands | None = None,
    ):
        """system: a PyTorch system, or an exported one, which needs no PyTorch and has its own device.

        device: where to run; None takes a GPU if there is one. Raises OptionError if it is not there.

        false_colour: what to do with infrared images in false colours (`false_colour_rule`).
        precision, tiling, compiled: as in `PyTorchRuntime`; an exported system has its own precision, no
        tiles and nothing to compile.
        origin: the run folder that the system comes from, for those who ask what made a result; None is the
        system's name.
        chosen: in a line, what runtime was chosen for it, and why; None where nothing was to be chosen.
        rig: the ``rig.json`` of cameras that are not aligned, whose images are brought into the picture of
        the band ``frame`` (None: visible); pixels that only one of them saw are ignored in labels. Raises
        OptionError for a file that is none, or a frame without a rig.
        monitor: drop a band that looks broken by itself or that the run's own monitor finds harmful
        (`PairMonitor`), where the system can do without it. Raises WeightsError for a damaged monitor.
        bands: what is used of every pair; None is all that it has.
        """
        check_arguments(_ARGUMENTS, {"monitor": monitor, "bands": bands})
        check_false_colour(false_colour)
        self.origin = system.name if origin is None else str(Path(origin).absolute())
        self.chosen = chosen
        self.runtime = runtime_of(system, device, precision, tiling, compiled)
        self.precision, self.tiling = precision, tiling
        self.monitor = PairMonitor.of(card.monitor) if monitor else None
        self.device = self.runtime.device
        # Either is one; what needs PyTorch's asks for it by name, as evaluation does.
        self.system: Any = system
        self.card = card
        self.bands = bands
        self.false_colour = false_colour
        self.registration = registration_of(rig, frame)
        warn_of_rig(system, self.registration)
        self.scaling = None if card.infrared_scaling == AUTO else InfraredScaling.parse(card.infrared_scaling)

    def __call__(self, visible: ImageLike | None = None, infrared: ImageLike | None = None) -> Prediction:
        """Segment one pair, fuse it, or both; either band may be None.

        visible: a path, a PIL image, or an array (H, W, 3) or (H, W): uint8, uint16, or float in [0, 1].
        infrared: a path, a grey PIL image, or an array (H, W) as the camera stores it (or with three equal
        channels), which the card's infrared scaling turns into [0, 1].
        An EXIF orientation is applied, that of a PIL image too, so that labels are of the upright picture.

        Raises PairError for images that cannot be used, BandError for a combination of bands that the system
        cannot run on.
        """
        return self.predict(self.pair_of(visible, infrared))

    def pair_of(self, visible: ImageLike | None = None, infrared: ImageLike | None = None) -> Pair:
        """The pair of images given as a call takes them, in the ranges that the system reads.

        Raises PairError for images that cannot be used.
        """
        paths = {
            band: Path(x)
            for band, x in (("visible", visible), ("infrared", infrared))
            if isinstance(x, str | Path)
        }
        pair, arrays = Pair("pair", None, None), Pair("pair", None, None)
        if paths:
            files = PairFiles(next(iter(paths.values())).stem, paths.get("visible"), paths.get("infrared"))
            if "infrared" in paths:
                self._settle_by_file(files)
            pair = self.read(files)
        if visible is not None and "visible" not in paths:
            arrays.visible = visible_array(visible)
        if infrared is not None and "infrared" not in paths:
            levels = infrared_levels(infrared)
            self._settle(
                PairsSummary(None, summarise_image("infrared", levels, false_colour=self.false_colour))
            )
            arrays.infrared = self._rule(infrared_channel(levels, self.false_colour))
        if self.registration is not None and not (arrays.visible is arrays.infrared is None):
            arrays = self.registration(arrays)
        return joined(pair, arrays)

    def predict_many(
        self,
        pairs: Iterable[Pair | PairFiles | Listed | tuple[ImageLike | None, ImageLike | None]],
        *,
        batch_size: int = 1,
        workers: int = 2,
        on_error: OnError = "stop",
    ) -> Iterator[Prediction]:
        """What the system sees in each of many pairs, in their order; reading and computing overlap.

        pairs: any iterable, also one without an end, of pairs that were read, of files, or of (visible,
        infrared) as a call takes them. batch_size: so many consecutive pairs of one size are run at once; the
        results are those of one by one, up to rounding. workers: threads that read ahead. No more than a
        batch and what is read ahead is held.
        on_error: what a pair that cannot be used does: "stop" raises its PairError, "skip" leaves it out.

        Raises OptionError and BandError as `predict`.
        """
        check_arguments(_ARGUMENTS, {"on_error": on_error})
        for _, result in self.answers(pairs, batch_size=batch_size, workers=workers):
            if not isinstance(result, PairError):
                yield result
            elif on_error == "stop":
                raise result

    def answers(
        self, pairs: Iterable[Item], *, batch_size: int = 1, workers: int = 2
    ) -> Iterator[tuple[Item, Prediction | PairError]]:
        """`predict_many`, each result beside what it is of; a PairError stands for one that failed."""

        def read(given: tuple[Item, Any]) -> Pair:
            if isinstance(given[1], PairError):
                raise given[1]
            return self._read_any(given[1])

        given = ((item, self._settled_by(item)) for item in pairs)
        results = in_batches(given, read, self.predict_alike, batch_size=batch_size, workers=workers)
        return ((item, result) for (item, _), result in results)

    def _settled_by(self, item: Any) -> Any:
        """The item, or what was read of it where it is the one that settles the scaling: here, in order."""
        if self.scaling is not None:
            return item
        try:
            return self._read_any(item)
        except PairError as error:
            return error

    def _read_any(self, given: Any) -> Pair:
        if isinstance(given, PairFiles | Listed):
            self._settle_by_file(given)
            given = self.read(given)
        return with_bands(given if isinstance(given, Pair) else self.pair_of(*given), self.bands)

    def _settle_by_file(self, files: PairFiles | Listed) -> None:
        if isinstance(files, Listed):
            self.scaling = self.scaling or files.pairs.scaling
        elif self.scaling is None and files.infrared is not None:
            self._settle(summarise_files([files], false_colour=self.false_colour))

    def examine(self, files: Sequence[PairFiles | Listed]) -> list[Suspicion]:
        """Look at a sample of files before they are used: what looks wrong with them, if anything.

        Settles the scaling where it is "auto". Raises PairError if no one rule suits the files, WeightsError
        if the card's summary of its training pairs is none.
        """
        if listed := [given for given in files if isinstance(given, Listed)]:
            summary = summarise_pairs(listed[0].pairs)
            self._settle_by_file(listed[0])
        else:
            own = [given for given in files if isinstance(given, PairFiles)]
            summary = summarise_files(own, false_colour=self.false_colour)
            self._settle(summary)
        return suspicions(summary, trained_on(self.card), scaling=self._rule, false_colour=self.false_colour)

    def read(self, files: PairFiles | Listed) -> Pair:
        """Read a pair as this predictor does, or as its list does. Raises PairError as `read_pair`."""
        if isinstance(files, Listed):
            return files.read()
        return read_pair(
            files, self._rule, None, false_colour=self.false_colour, registration=self.registration
        )

    @property
    def _rule(self) -> InfraredScaling:
        """The settled rule; without an infrared image there is none to settle, and any will do."""
        return self.scaling or InfraredScaling()

    def _settle(self, summary: PairsSummary) -> None:
        if self.scaling is None and summary.infrared is not None:
            self.scaling = automatic_scaling(summary.infrared)

    def predict(self, pair: Pair, *, faults: dict[Band, Fault] | None = None) -> Prediction:
        """What the system sees in a pair that has been read already, of the predictor's bands.

        Labels are ``IGNORE_INDEX`` and their confidence 0 where the pair is not valid. faults: of its bands,
        for who knows them better than from this pair alone; None asks the monitor.

        Raises PairError for bands of two sizes or one that lacks, BandError for a combination of bands that
        the system cannot run on, OptionError if it gives NaN.
        """
        pair = with_bands(pair, self.bands)
        if faults is None:
            return self.predict_alike([pair])[0]
        left = bands_left(bands_of(pair.visible, pair.infrared), faults, self.system.supports)
        return self._predict_on(left, [pair], [faults])[0]

    def predict_alike(self, pairs: list[Pair]) -> list[Prediction]:
        """What the system sees in pairs of one size and with the same bands at once. Raises as `predict`."""
        given = bands_of(pairs[0].visible, pairs[0].infrared)
        found = [(pair, self._at_sight(pair)) for pair in pairs]
        runs = groupby(found, key=lambda one: bands_left(given, one[1], self.system.supports))
        made = [one for bands, run in runs for one in self._predict_on(bands, *zip(*run, strict=True))]
        return [self._without_harm(one) for one in made]

    def judged(self, pair: Pair) -> Prediction:
        """As `predict`, with what the monitor finds in the bands of a pair, of which none is left out."""
        pair = with_bands(pair, self.bands)
        found = self._at_sight(pair)
        made = self._predict_on(bands_of(pair.visible, pair.infrared), [pair], [found])[0]
        return replace(made, faults=found or self._in_answer(made))

    def _at_sight(self, pair: Pair) -> dict[Band, Fault]:
        return {} if self.monitor is None else faults_of(pair.visible, pair.infrared)

    def _in_answer(self, made: Prediction) -> dict[Band, Fault]:
        if self.monitor is None or made.bands != "both" or made.faults:
            return {}
        return self.monitor.in_answer(made.pair.visible, made.pair.infrared, made.labels, made.confidence)

    def _without_harm(self, made: Prediction) -> Prediction:
        """A prediction, or that without the band that does harm in it."""
        if not (found := self._in_answer(made)):
            return made
        left = bands_left(made.bands, found, self.system.supports)
        if left == made.bands:
            return replace(made, faults=found)
        return self._predict_on(left, [made.pair], [found])[0]

    def _predict_on(
        self, bands: Bands, pairs: Sequence[Pair], faults: Sequence[dict[Band, Fault]]
    ) -> list[Prediction]:
        support = self.system.check_bands(bands)
        answer = self.runtime.answer(
            stacked([pair.visible if bands != "infrared" else None for pair in pairs]),
            stacked([pair.infrared if bands != "visible" else None for pair in pairs]),
        )
        if answer.diverged:
            if len(pairs) > 1:
                # One by one, so that the pair is named.
                return [self.predict(pair) for pair in pairs]
            # argmax and rounding turn NaN into a class and a colour, and nothing would show it.
            raise OptionError(
                f"{self.system.name} gave NaN for pair {quoted(pairs[0].name)}: its training diverged"
            )
        if answer.labels is not None and answer.confidence is not None:
            for pair, labels, confidence in zip(pairs, answer.labels, answer.confidence, strict=True):
                leave_unseen_out(labels, confidence, pair.valid)
        return [
            Prediction(
                labels=None if answer.labels is None else answer.labels[place],
                confidence=None if answer.confidence is None else answer.confidence[place],
                fused=None if answer.fused is None else answer.fused[place],
                bands=bands,
                support=support,
                pair=pair,
                classes=self.card.classes,
                reliability={band: weight[place] for band, weight in answer.reliability.items()},
                faults=faults[place],
            )
            for place, pair in enumerate(pairs)
        ]


def __getattr__(name: str) -> Any:
    if name not in _MOVED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warn_old(f"{__name__}.{name}", f"{_MOVED[name]}.{name}")
    return getattr(importlib.import_module(_MOVED[name]), name)
