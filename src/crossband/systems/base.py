"""The contract that every system keeps: bands in, `Output` out, training as a list of phases.

A system is one published method: its network and the way it is trained. Both are described by plain data, in
two dataclasses: `NetworkSettings`, from which a `System` is built, and `Training`, which says what is
trained, on which losses. Neither holds a training loop; `crossband.training` runs any phase of any system.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crossband.errors import BandError, OptionError
from crossband.option_ranges import Range
from crossband.pairs.base import bands_of
from crossband.pairs.batch import Batch
from crossband.words import IGNORE_INDEX, Band, Bands, Support


@dataclass
class Output:
    """What a system returns.

    logits: (B, C, H, W) for the prediction, or None for a system that only fuses.
    fused: (B, 3, H, W) in [0, 1], or None.
    branches: further logits by name, such as ``{"infrared": ..., "visible": ...}``; in training, or when
        asked for.
    features: what the losses ask for, an object of the system's own type; in training, or when asked for.
    reliability: (B, 1, H, W) in [0, 1] per band, how far the system trusted it; empty if it does not say.
    """

    logits: Tensor | None = None
    fused: Tensor | None = None
    branches: dict[str, Tensor] = field(default_factory=dict)
    features: Any = None
    reliability: dict[Band, Tensor] = field(default_factory=dict)


@dataclass
class EpochRow:
    """One epoch of a phase in the learning curves.

    phase, epoch: its name and number, from 1. lr: the rate of the last step. losses: means over the epoch, by
    term, with their sum as ``loss``. scores: the mean IoU on the validation pairs (protocol "present") for
    each combination of bands; validation_loss: the loss there, for phases that are chosen by it.
    """

    phase: str
    epoch: int
    lr: float
    losses: dict[str, float] = field(default_factory=dict)
    scores: dict[Bands, float] = field(default_factory=dict)
    validation_loss: float | None = None
    seconds: float = 0.0


@dataclass
class Phase:
    """One step of a system's training.

    trained: the module whose parameters are optimised.
    keeps: the part of it whose weights are kept when the phase ends (projection heads, say, are not).
    loss: named terms of the loss for a batch; their sum is minimised and each is logged by its name.
    frozen: modules that the loss reads; they stay in eval mode and without gradients while the phase lasts.
    validate: the band combinations that ``keeps`` is validated on, by mean IoU; the first chooses the
        checkpoint.
    groups: parts of ``trained`` by name, whose optimisation a recipe's ``groups`` may change.
    reads: the bands that the training pairs must have; None for those of ``validate``'s first.
    chooses: what chooses the epoch that is kept: the best validation "score", the lowest validation "loss",
        or that it is the "last". None is "score", and "loss" where ``keeps`` only fuses.
    prepare: called before each epoch with its number, from 0, the number of epochs, and the rows of the
        phase's earlier ones. It depends on nothing else, so that a resumed training prepares as one that was
        not interrupted.
    start_from: the option by which ``prepare`` begins at other weights than ``keeps`` has, in words; None
        where the phase begins at these.
    """

    name: str
    trained: nn.Module
    keeps: System
    loss: Callable[[Batch], Mapping[str, Tensor]]
    frozen: tuple[nn.Module, ...] = ()
    validate: tuple[Bands, ...] = ("both",)
    groups: Mapping[str, nn.Module] = field(default_factory=dict)
    reads: Bands | None = None
    chooses: Literal["score", "loss", "last"] | None = None
    prepare: Callable[[int, int, Sequence[EpochRow]], None] | None = None
    start_from: str | None = None

    @property
    def chosen_by(self) -> Literal["score", "loss", "last"]:
        """``chooses``, decided."""
        return self.chooses or ("score" if self.keeps.segments else "loss")


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """What a network is, as plain data; the base of every system's own.

    Every field has a default, the paper's value, and a type that `crossband.systems.create` checks; so it
    does the range of a number, where ``ranges`` has one (`crossband.option_ranges.check_ranges`). One that
    does not go with another is refused in ``__post_init__`` with an OptionError.
    """

    ranges: ClassVar[Mapping[str, Range]] = {}


_S = TypeVar("_S", bound="System")


@dataclass(frozen=True, kw_only=True)
class Training(ABC, Generic[_S]):
    """What trains a system, as plain data: weights of losses, sampling, distillation. And the phases.

    The fields follow the rules of `NetworkSettings`.

    recipes, augmentations: what the system changes of a named recipe (`crossband.recipe.RECIPES`) and of the
        default augmentation under it; a name of its own makes a recipe that only this system has.
    phase_recipes, phase_augmentations: the same for single phases: changes by recipe name and phase name.
    variants: what a variant of the network (`System.variants`) changes in these fields, by its name.
    earlier: as of a `System`, in these fields.
    """

    ranges: ClassVar[Mapping[str, Range]] = {}
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    phase_recipes: ClassVar[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {}
    augmentations: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    phase_augmentations: ClassVar[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {}
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    earlier: ClassVar[Mapping[str, Any]] = {}

    @abstractmethod
    def phases(self, system: _S) -> list[Phase]:
        """The training of a system, in order. The last phase keeps the system itself."""

    def recipe_of(self, phase: str, recipe: str) -> Mapping[str, Any]:
        """What a phase changes of a named recipe, both by name: ``phase_recipes``, unless these fields say
        otherwise."""
        return self.phase_recipes.get(recipe, {}).get(phase, {})


class System(nn.Module, ABC):
    """Base class of all systems: a network, and a pointer to what trains it.

    built_from: the dataclass of its settings. trained_by: the dataclass of its training, or where it is, as
        "package.module:Class", if it lives in a module that imports this one; None for a system that is
        ready as it is created: it has no parameters, or brings their values along.
    variants: named changes of the settings, for `create`.
    earlier: of the settings that earlier versions did not have, the values of what these versions built,
        where today's defaults or variants differ. A run's file that does not name such a setting is theirs.
    supports: the band combinations that the system runs on, and whether it was designed for them or
        offers them as a labelled fallback.
    segments, fuses: whether its output has logits, and whether it has a fused picture.
    needs_labels: of one that fuses, whether its pictures are made by what it segments, so that it cannot be
        trained without labels.
    multiple: the network needs heights and widths that are multiples of this; padding to it and
        cropping back happen here.
    classes, settings: what it was built with. variant: the name that its options started from, if any.
    encoder_origin: where the encoder's first weights came from, None for a random start.
    given_training: the training that `phases` takes if it is given none; None for that of the paper.

    The constructor takes the number of classes and the settings. None for classes asks for a system that
    only fuses; one that cannot raises OptionError.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[str]
    built_from: ClassVar[type[NetworkSettings]] = NetworkSettings
    trained_by: ClassVar[type[Training[Any]] | str | None] = None
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    earlier: ClassVar[Mapping[str, Any]] = {}
    supports: Mapping[Bands, Support]
    segments: bool = True
    fuses: bool = False
    needs_labels: bool = False
    multiple: int = 1
    variant: str | None = None
    encoder_origin: str | None = None
    given_training: Training[Any] | None = None

    def __init__(self, classes: int | None, settings: NetworkSettings):
        super().__init__()
        self.classes = classes
        self.settings: Any = settings

    @abstractmethod
    def run(self, visible: Tensor | None, infrared: Tensor | None, *, features: bool) -> Output:
        """The network itself, on bands whose size is a multiple of ``multiple``.

        features: whether to fill ``Output.branches`` and ``Output.features``.
        """

    def nearby(self, visible: Tensor | None, infrared: Tensor | None) -> list[Tensor] | None:
        """The part of `run` that sees a limited neighbourhood, as maps that `complete` makes the output of;
        None where a network is not so divided.

        Of a large image it is run in tiles, whose maps are joined, and `complete` sees the whole. Images as
        of `run`; maps (B, C, h, w) of sides that divide the images'.
        """
        return None

    def complete(self, bands: Bands, maps: list[Tensor]) -> Output:
        """The output without branches and features of what `nearby` made of these bands."""
        raise NotImplementedError

    @abstractmethod
    def deployed(self, bands: Bands) -> list[nn.Module]:
        """The modules that inference on these bands touches; their parameters are what it costs."""

    def folded(self) -> System:
        """The system as it is deployed: itself, or a copy that answers alike, in which what only training
        keeps apart is one. A copy is for inference: its weights are not those of a run."""
        return self

    def dead(self) -> list[nn.Module]:
        """Modules with weights that nothing ever reads, kept for a published count or a file's layout."""
        return []

    def encoders(self) -> list[nn.Module]:
        """The encoders that ``encoder_weights`` are loaded into, the one that reads the file first."""
        return []

    @classmethod
    def training_class(cls) -> type[Training[Any]]:
        """The dataclass of its training. Raises OptionError for a system that needs none."""
        if cls.trained_by is None:
            raise OptionError(
                f"{cls.name} needs no training; use it by its name, as in `crossband fuse {cls.name}`"
            )
        if isinstance(cls.trained_by, str):
            module, name = cls.trained_by.split(":")
            return getattr(importlib.import_module(module), name)
        return cls.trained_by

    def phases(self, training: Training[Any] | None = None) -> list[Phase]:
        """The phases of its training, in order; none for a system that needs no training.

        training: an instance of its training class; None takes the paper's values.
        """
        if self.trained_by is None:
            return []
        return (training or self.given_training or self.training_class()()).phases(self)

    @property
    def network_options(self) -> dict[str, Any]:
        """The settings as plain data, from which `create` builds the same network again.

        Without ``encoder_weights``: trained weights replace them, and nothing must ask for them again.
        """
        values = asdict(self.settings)
        return {name: None if name == "encoder_weights" else value for name, value in values.items()}

    def forward(
        self, visible: Tensor | None = None, infrared: Tensor | None = None, *, features: bool | None = None
    ) -> Output:
        """Segment (and fuse) a batch of pairs.

        visible: float (B, 3, H, W), sRGB in [0, 1], or None. infrared: float (B, 1, H, W) in [0, 1], or
        None. Any H and W. Everything in the `Output` that has the image's size is cropped back to it;
        its ``features`` stay as the network made them, of the padded size.
        features: whether to return branches and features; None means in training mode only.

        Raises BandError for a combination of bands that the system cannot run on, OptionError for tensors
        of the wrong shape.
        """
        self.check_bands(bands_of(visible, infrared))
        height, width = _check_shapes(visible, infrared)
        output = self.run(
            self.pad(visible), self.pad(infrared), features=self.training if features is None else features
        )
        return self.cropped(output, height, width)

    @staticmethod
    def cropped(output: Output, height: int, width: int) -> Output:
        """An output of padded images, with what has the image's size cut to that."""
        return Output(
            logits=_crop(output.logits, height, width),
            fused=_crop(output.fused, height, width),
            branches={name: logits[..., :height, :width] for name, logits in output.branches.items()},
            features=output.features,
            reliability={band: weight[..., :height, :width] for band, weight in output.reliability.items()},
        )

    @classmethod
    def need_classes(cls, classes: int | None) -> int:
        """The number of classes, for a constructor that has no use for None. Raises OptionError for None."""
        if classes is None:
            raise OptionError(
                f"{cls.name} segments, so it needs the number of classes (and labels to be trained on)"
            )
        return classes

    def check_bands(self, bands: Bands) -> Support:
        """How the system supports a combination. Raises BandError, naming what it can do, if it does not."""
        if bands not in self.supports:
            able = ", ".join(f"{name} ({support})" for name, support in self.supports.items())
            raise BandError(f"{self.name} cannot run on {_spoken(bands)}; it runs on: {able}")
        return self.supports[bands]

    def pad_label(self, label: Tensor) -> Tensor:
        """Pad a label (B, H, W) with ``IGNORE_INDEX`` to the size of the features' own input."""
        below, right = -label.shape[-2] % self.multiple, -label.shape[-1] % self.multiple
        return F.pad(label, (0, right, 0, below), value=IGNORE_INDEX)

    def pad(self, image: Tensor | None) -> Tensor | None:
        """Repeat the edge of an image (B, C, H, W) below and to the right up to the network's multiple."""
        if image is None:
            return None
        below, right = -image.shape[-2] % self.multiple, -image.shape[-1] % self.multiple
        # Of an exported graph the amounts are formulas: it pads by them, be they 0.
        if isinstance(below, int) and isinstance(right, int) and not (below or right):
            return image
        return F.pad(image, (0, right, 0, below), mode="replicate")


def _spoken(bands: Bands) -> str:
    return "both bands" if bands == "both" else f"{bands} alone"


def _crop(image: Tensor | None, height: int, width: int) -> Tensor | None:
    return None if image is None else image[..., :height, :width]


def _check_shapes(visible: Tensor | None, infrared: Tensor | None) -> tuple[int, int]:
    sizes: list[tuple[int, int, int]] = []
    for band, image, channels in (("visible", visible, 3), ("infrared", infrared, 1)):
        if image is None:
            continue
        if image.ndim != 4 or image.shape[1] != channels or not torch.is_floating_point(image):
            raise OptionError(
                f"{band} must be a float tensor of shape (B, {channels}, H, W), "
                f"not {image.dtype} {tuple(image.shape)}"
            )
        sizes.append((image.shape[0], *image.shape[-2:]))
    # No set: the sizes of an exported graph are symbols, which have no hash.
    if any(size != sizes[0] for size in sizes):
        raise OptionError(
            "visible and infrared must agree in batch size, height and width, "
            f"but are {tuple(visible.shape)} and {tuple(infrared.shape)}"  # type: ignore[union-attr]
        )
    return sizes[0][1], sizes[0][2]
