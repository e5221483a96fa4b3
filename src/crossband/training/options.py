"""Everything that decides a training run, as plain data: what ``config.yaml`` holds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import InitVar, asdict, dataclass, field, fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any, get_origin

from crossband.deprecation import warn_old
from crossband.errors import OptionError, first_line, quoted
from crossband.option_types import check_arguments, check_types, types_of
from crossband.words import Accelerator, Logger, Precision, Select
from crossband.yaml_files import read_yaml, yaml_text

_SEEDS = 1 << 64
"""How many PyTorch has."""


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else value


@dataclass
class TrainOptions:
    """A training run. Two runs with equal options on the same machine give the same weights.

    system: one of `list_systems()`. data: a source of pairs, such as ``msrs:PATH``. out: the run folder.
    variant, encoder, encoder_weights, network: what `create` takes. loss: what `make_training` takes: weights
    of losses, sampling, distillation.
    without_labels: train a system that fuses on its fusion loss alone; labels are not read.
    recipe: ``name`` is the recipe to start from ("paper" if it is left out), everything else a field of
    `Recipe` to change, for every phase; a text is a name. phases: further changes for single phases, by phase
    name. reuse: phases to take from finished run folders instead of training them, by phase name.
    start_from: a finished run of the same system, at whose weights this training starts.
    augmentation: fields of `Augmentation`. robust: train for cameras that break: `ROBUST` of
    `crossband.training.robust` becomes the default of these fields. band_monitor: train the run's own monitor
    of broken bands when its weights are there (`crossband.training.monitoring`).
    infrared_scaling: see `InfraredScaling`.
    split: the split to train on. hold_out: share of it that is kept out of training, for validation;
        0 validates on nothing. validation: a split to validate on instead. The test split is refused.
    select: "best" keeps the epoch with the best validation mean IoU (without labels: the lowest validation
    loss), "last" the last one.
    workers: processes that read pairs; None chooses by the machine.
    devices, accelerator, precision, channels_last, compile, deterministic: how to compute. The batch size of
        a recipe is per device.
    logger: where the curves go beside ``curves.csv`` (`crossband.training.loggers`); None is TensorBoard
        where it is installed.
    preset, options: old spellings of ``recipe``'s name, and of ``variant``, ``network`` and ``loss`` in one.

    `crossband.training.resolving` says what wins where several of these speak of the same thing.
    """

    system: str
    data: str
    out: str
    variant: str | None = None
    encoder: str | None = None
    encoder_weights: str | None = None
    network: dict[str, Any] = field(default_factory=dict)
    loss: dict[str, Any] = field(default_factory=dict)
    without_labels: bool = False
    recipe: dict[str, Any] = field(default_factory=dict)
    phases: dict[str, dict[str, Any]] = field(default_factory=dict)
    reuse: dict[str, str] = field(default_factory=dict)
    start_from: str | None = None
    augmentation: dict[str, Any] = field(default_factory=dict)
    robust: bool = False
    band_monitor: bool = False
    infrared_scaling: str = "full-range"
    split: str = "train"
    hold_out: float = 0.1
    validation: str | None = None
    select: Select = "best"
    seed: int = 0
    deterministic: bool = False
    precision: Precision = "float32"
    accelerator: Accelerator = "auto"
    devices: int = 1
    workers: int | None = None
    channels_last: bool = False
    compile: bool = False
    logger: Logger | None = None
    preset: InitVar[str | None] = None
    options: InitVar[dict[str, Any] | None] = None

    def __post_init__(self, preset: str | None, options: Mapping[str, Any] | None) -> None:
        from crossband.pairs.opening import for_testing

        if isinstance(self.recipe, str):
            self.recipe = {"name": self.recipe}
        if preset is not None:
            warn_old("TrainOptions(preset=...)", "recipe={'name': ...}", stacklevel=3)
            self.recipe = {"name": preset, **self.recipe}
        if options:
            warn_old("TrainOptions(options=...)", "variant, network and loss", stacklevel=3)
            variant, network, loss = place_options(self.system, options)
            self.variant = self.variant or variant
            self.network, self.loss = {**network, **self.network}, {**loss, **self.loss}
        self._check_types()
        trained, chosen_by = (
            set() if split is None else set(split.split("+")) for split in (self.split, self.validation)
        )
        if any(for_testing(self.data, split) for split in trained | chosen_by):
            raise OptionError(
                "the test split is for testing: train on another one, and let hold_out or validation choose"
            )
        if both := sorted(trained & chosen_by):
            raise OptionError(
                f"validation: split {quoted(both[0])} is trained on, so its score says nothing about other "
                "pairs; name another split, or leave validation out, and hold_out keeps some apart"
            )
        if not 0 <= self.hold_out < 1:
            raise OptionError(f"hold_out is a share in [0, 1), not {quoted(self.hold_out)}")
        if not 0 <= self.seed < _SEEDS:
            raise OptionError(f"the seed must be 0 or more and below 2^64, not {quoted(self.seed)}")
        if self.devices < 1:
            raise OptionError(f"devices must be 1 or more, not {quoted(self.devices)}")
        if self.workers is not None and self.workers < 0:
            raise OptionError(f"workers must be 0 or more, not {quoted(self.workers)}")

    def _check_types(self) -> None:
        """Raise OptionError, naming the field, for a value of another type.

        Paths become texts, and other libraries' numbers, as NumPy's, plain ones. A mapping is looked through
        where its names are known.
        """
        hints = types_of(TrainOptions)
        for each in fields(self):
            value = getattr(self, each.name)
            setattr(self, each.name, value := _plain(value))
            if get_origin(hints[each.name]) is dict:
                if not isinstance(value, Mapping):
                    raise OptionError(f"{each.name} must be a mapping of names, not {quoted(value)}")
                continue
            # A text that is no truth value would be true, and a word that means nothing some other one.
            whole = float(value) if hints[each.name] is float and type(value) is int else value
            check_arguments(hints, {each.name: whole})

    def check_together(self) -> None:
        """Raise OptionError for an option of a new training that another one leaves without effect."""
        (plain,) = (field.default for field in fields(self) if field.name == "hold_out")
        if self.validation is not None and self.hold_out not in (0, plain):
            raise OptionError(
                f"hold_out: nothing is held out where validation names a split, {quoted(self.validation)}; "
                "leave one of the two out"
            )
        if both := sorted(set(self.phases) & set(self.reuse)):
            raise OptionError(
                f"phases: {both[0]} is taken from {self.reuse[both[0]]} by reuse, and not trained; leave one "
                "of the two out"
            )

    def to_yaml(self) -> str:
        return yaml_text(asdict(self))

    @classmethod
    def from_yaml(cls, path: Path) -> TrainOptions:
        """Read what `to_yaml` wrote. Raises OptionError, naming the file, for anything else."""
        values = read_yaml(path)
        try:
            return cls(**checked(values))
        except (TypeError, OptionError) as error:
            raise OptionError(
                f"{path} does not hold the options of a training run ({first_line(error)})"
            ) from error


def checked(values: Any) -> dict[str, Any]:
    """What `TrainOptions` is made of, each of its field's type; other names are left to that.

    Raises OptionError, naming the field, for a value of another type, and TypeError for no mapping of names.
    """
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise TypeError("it is no mapping of names")
    hints = {
        name: hint.type if isinstance(hint, InitVar) else hint
        for name, hint in types_of(TrainOptions).items()
    }
    if isinstance(values.get("recipe"), str):
        values = {**values, "recipe": {"name": values["recipe"]}}
    known = {name: value for name, value in values.items() if name in hints}
    return {**values, **check_types("config", hints, known)}


def place_options(
    system: str, options: Mapping[str, Any]
) -> tuple[str | None, dict[str, Any], dict[str, Any]]:
    """Options under the old name ``options``, as (variant, network, loss)."""
    from crossband.systems import split_options

    network, loss = split_options(system, options)
    return network.pop("preset", None), network, loss
