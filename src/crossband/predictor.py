"""Images in, labels and pictures out: trained weights, ready to use."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from crossband.card import CARD_NAME, Card
from crossband.deprecation import warn_old
from crossband.errors import OptionError, PairError, WeightsError, first_line, quoted
from crossband.pairs.auto_scaling import AUTO, automatic_scaling
from crossband.pairs.band_summary import PairsSummary, summarise_files, summarise_image
from crossband.pairs.base import Classes, Pair, PairFiles, bands_of
from crossband.pairs.false_colour import REFUSE, infrared_channel
from crossband.pairs.infrared_scaling import InfraredScaling
from crossband.pairs.reading import read_pair
from crossband.pairs.suspicions import Suspicion, suspicions
from crossband.pictures import overlay, to_uint8
from crossband.run_card import check_run
from crossband.runtime.answer import Runtime
from crossband.runtime.exported import Exported, is_exported, open_exported
from crossband.words import Band, Bands, Support

if TYPE_CHECKING:
    import torch

    from crossband.runtime.sessions import RuntimeName
    from crossband.systems.base import System

ImageLike = str | Path | np.ndarray | Image.Image


@dataclass
class Prediction:
    """What a system sees in one pair.

    labels: uint8 (H, W), class ids. confidence: float32 (H, W) in [0, 1], the softmax of the predicted class.
        Both are None for a system that only fuses, and so is ``classes``.
    fused: uint8 (H, W, 3), or None for a system that does not fuse.
    reliability: float32 (H, W) in [0, 1] per band, how far the system trusted it; empty if it does not say.
    bands: the combination that was given. support: whether the system was designed for it.
    pair: the images as they were read. classes: names and palette of the ids.
    """

    labels: np.ndarray | None
    confidence: np.ndarray | None
    fused: np.ndarray | None
    bands: Bands
    support: Support
    pair: Pair
    classes: Classes | None
    reliability: dict[Band, np.ndarray] = field(default_factory=dict)

    def overlay(self, opacity: float = 0.5) -> Image.Image:
        """The labels' colours over the visible image, or over the infrared one where there is none.

        Raises OptionError where the system gave no labels.
        """
        if self.labels is None or self.classes is None:
            raise OptionError("there are no labels to lay over the image: this system only fuses")
        visible, infrared = self.pair.visible, self.pair.infrared
        return Image.fromarray(
            overlay(
                None if visible is None else to_uint8(visible),
                None if infrared is None else to_uint8(infrared),
                self.labels,
                self.classes.palette,
                opacity,
            )
        )


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
        origin: str | Path | None = None,
    ):
        """system: a PyTorch system, or an exported one, which needs no PyTorch and has its own device.

        device: where to run; None takes a GPU if there is one. Raises OptionError if it is not there.

        false_colour: what to do with infrared images in false colours (`false_colour_rule`). origin: the run
        folder that the system comes from, for those who ask what made a result; None is the system's name.
        """
        self.origin = system.name if origin is None else str(Path(origin).absolute())
        self.runtime = _runtime(system, device)
        self.device = self.runtime.device
        # Either is one; what needs PyTorch's asks for it by name, as evaluation does.
        self.system: Any = system
        self.card = card
        self.false_colour = false_colour
        self.scaling = None if card.infrared_scaling == AUTO else InfraredScaling.parse(card.infrared_scaling)

    def __call__(self, visible: ImageLike | None = None, infrared: ImageLike | None = None) -> Prediction:
        """Segment one pair, fuse it, or both; either band may be None.

        visible: a path, a PIL image, or an array (H, W, 3) or (H, W): uint8, uint16, or float in [0, 1].
        infrared: a path, a grey PIL image, or an array (H, W) as the camera stores it (or with three equal
        channels), which the card's infrared scaling turns into [0, 1].

        Raises PairError for images that cannot be used, BandError for a combination of bands that the system
        cannot run on.
        """
        paths = {
            band: Path(x)
            for band, x in (("visible", visible), ("infrared", infrared))
            if isinstance(x, str | Path)
        }
        pair = Pair("pair", None, None)
        if paths:
            files = PairFiles(next(iter(paths.values())).stem, paths.get("visible"), paths.get("infrared"))
            if "infrared" in paths:
                self._settle(summarise_files([files], false_colour=self.false_colour))
            pair = self.read(files)
        if visible is not None and "visible" not in paths:
            pair.visible = _visible_array(visible)
        if infrared is not None and "infrared" not in paths:
            levels = _infrared_levels(infrared)
            self._settle(
                PairsSummary(None, summarise_image("infrared", levels, false_colour=self.false_colour))
            )
            pair.infrared = self._rule(infrared_channel(levels, self.false_colour))
        return self.predict(pair)

    def examine(self, files: list[PairFiles]) -> list[Suspicion]:
        """Look at a sample of files before they are used: what looks wrong with them, if anything.

        Settles the scaling where it is "auto". Raises PairError if no one rule suits the files, WeightsError
        if the card's summary of its training pairs is none.
        """
        summary = summarise_files(files, false_colour=self.false_colour)
        self._settle(summary)
        trained_on = _trained_on(self.card)
        return suspicions(summary, trained_on, scaling=self._rule, false_colour=self.false_colour)

    def read(self, files: PairFiles) -> Pair:
        """Read a pair as this predictor does. Raises PairError as `read_pair`."""
        return read_pair(files, self._rule, None, false_colour=self.false_colour)

    @property
    def _rule(self) -> InfraredScaling:
        """The settled rule; without an infrared image there is none to settle, and any will do."""
        return self.scaling or InfraredScaling()

    def _settle(self, summary: PairsSummary) -> None:
        if self.scaling is None and summary.infrared is not None:
            self.scaling = automatic_scaling(summary.infrared)

    def predict(self, pair: Pair) -> Prediction:
        """What the system sees in a pair that has been read already.

        Raises PairError for bands of two sizes, BandError for a combination of bands that the system cannot
        run on, OptionError if it gives NaN.
        """
        bands = bands_of(pair.visible, pair.infrared)
        support = self.system.check_bands(bands)
        sizes = {image.shape[1::-1] for image in (pair.visible, pair.infrared) if image is not None}
        if len(sizes) > 1:
            (a, b), (c, d) = sorted(sizes)
            raise PairError(
                f"pair {quoted(pair.name)}: one band is {a} x {b} and the other {c} x {d} pixels; "
                "the two must be registered and of one size"
            )
        answer = self.runtime.answer(
            *(None if image is None else image[None] for image in (pair.visible, pair.infrared))
        )
        if answer.diverged:
            # argmax and rounding turn NaN into a class and a colour, and nothing would show it.
            raise OptionError(
                f"{self.system.name} gave NaN for pair {quoted(pair.name)}: its training diverged"
            )
        return Prediction(
            labels=None if answer.labels is None else answer.labels[0],
            confidence=None if answer.confidence is None else answer.confidence[0],
            fused=None if answer.fused is None else answer.fused[0],
            bands=bands,
            support=support,
            pair=pair,
            classes=self.card.classes,
            reliability={band: weight[0] for band, weight in answer.reliability.items()},
        )


def _runtime(system: System | Exported, device: str | torch.device | None) -> Runtime:
    if isinstance(system, Exported):
        return system
    from crossband.runtime.pytorch import PyTorchRuntime

    return PyTorchRuntime(system, device)


def _trained_on(card: Card) -> PairsSummary | None:
    fields = card.training.get("trained_on")
    if fields is None:
        return None
    try:
        return PairsSummary.from_dict(fields)
    except (OptionError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{CARD_NAME} holds no summary of its training pairs ({first_line(error)})"
        ) from error


def load(
    run: str | Path,
    *,
    infrared_scaling: str | None = None,
    device: str | torch.device | None = None,
    false_colour: str = REFUSE,
    runtime: RuntimeName | None = None,
) -> Predictor:
    """The predictor of a finished run folder, of an exported file or bundle, or of a system without training.

    An exported file (``.onnx``, ``.xml``) or bundle needs no PyTorch. A system that needs no training goes by
    its name; a folder of that name counts only if it holds a run, as it may well be where pictures were put.
    infrared_scaling: the rule that turns stored infrared values into [0, 1], for a system that needs no
    training (None: "auto", see `Predictor.scaling`); a run was trained under the one in its card.
    false_colour: what to do with infrared images in false colours (`false_colour_rule`).
    runtime: of an exported file: "onnxruntime" or "openvino"; None takes the one its suffix is meant for.

    Raises WeightsError, with what is wrong, for anything else, OptionError for a scaling given to a run.
    """
    if is_exported(Path(run)):
        exported = open_exported(Path(run), runtime=runtime, device=None if device is None else str(device))
        if infrared_scaling is not None:
            raise OptionError(
                f"{run} was exported with infrared scaling {exported.card.infrared_scaling}; give no other"
            )
        return Predictor(exported, exported.card, false_colour=false_colour)
    if runtime is not None:
        raise OptionError(
            f"{run} runs on PyTorch; runtime {runtime} takes what `crossband export` made of it"
        )
    ready = check_run(run) is None
    from crossband.systems import create
    from crossband.weights import load_run, make_card

    if not ready:
        system, card = load_run(run)
        if infrared_scaling is not None:
            raise OptionError(
                f"{run} was trained with infrared scaling {card.infrared_scaling}; give no other"
            )
        return Predictor(system, card, device=device, false_colour=false_colour, origin=run)
    system = create(str(run))
    scaling = infrared_scaling or AUTO
    if scaling != AUTO:
        scaling = str(InfraredScaling.parse(scaling))
    return Predictor(system, make_card(system, None, scaling, {}), device=device, false_colour=false_colour)


def _refuse_tensor(band: Band, image: Any) -> None:
    # By name, so that images need no PyTorch.
    if type(image).__module__.partition(".")[0] == "torch":
        raise PairError(
            f"{band} is a torch tensor of shape {tuple(image.shape)}: give an array (H, W, channels), as "
            "image.permute(1, 2, 0).numpy(), or call the system itself with a batch (B, channels, H, W)"
        )


def _visible_array(image: ImageLike) -> np.ndarray:
    # Pillow would clip what is deeper than 8 bits.
    if isinstance(image, Image.Image) and not image.mode.startswith(("I", "F")):
        image = image.convert("RGB")
    _refuse_tensor("visible", image)
    array = np.asarray(image)
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=2)
    if array.ndim != 3 or array.shape[2] != 3:
        raise PairError(f"a visible image is (H, W, 3) or (H, W), not {array.shape}; drop an alpha channel")
    if array.dtype in (np.uint8, np.uint16):
        return array.astype(np.float32) / np.iinfo(array.dtype).max
    if not np.issubdtype(array.dtype, np.floating) or not (array.min() >= 0 and array.max() <= 1):
        raise PairError("a visible array must be uint8, uint16, or float within [0, 1] and without NaN")
    return array.astype(np.float32)


def _infrared_levels(image: ImageLike) -> np.ndarray:
    """(H, W, 1) or (H, W, 3) as the camera stores it."""
    if isinstance(image, Image.Image) and image.mode == "P":
        image = image.convert("RGB")
    _refuse_tensor("infrared", image)
    array = np.asarray(image)
    if array.ndim == 2:
        array = array[..., np.newaxis]
    if array.ndim != 3 or array.shape[2] not in (1, 3):
        raise PairError(f"an infrared image is (H, W), one channel or three equal ones, not {array.shape}")
    return array


def __getattr__(name: str) -> Any:
    if name not in ("predict_files", "fuse_files"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warn_old(f"{__name__}.{name}", f"crossband.predicting.{name}")
    return getattr(importlib.import_module("crossband.predicting"), name)
