"""Everything that decides a training run, as plain data: what ``config.yaml`` holds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_type_hints

from crossband.errors import OptionError, first_line, quoted
from crossband.option_types import check_types
from crossband.pairs.augmentation import Augmentation
from crossband.recipe import Recipe, preset
from crossband.yaml_files import read_yaml, yaml_text

Precision = Literal["float32", "bfloat16", "float16"]


@dataclass
class TrainOptions:
    """A training run. Two runs with equal options on the same machine give the same weights.

    system: one of `list_systems()`. data: a source of pairs, such as ``msrs:PATH``. out: the run folder.
    encoder, encoder_weights, options: what `create` takes, its ``preset`` among the options.
    without_labels: train a system that fuses on its fusion loss alone; labels are not read.
    preset: the recipe to start from. recipe: fields of it to change, for every phase. phases: further
        changes for single phases, by phase name. reuse: phases to take from finished run folders instead of
        training them, by phase name.
    augmentation: fields of `Augmentation`. infrared_scaling: see `InfraredScaling`.
    split: the split to train on. hold_out: share of it that is kept out of training, for validation;
        0 validates on nothing. validation: a split to validate on instead. The test split is refused.
    select: "best" keeps the epoch with the best validation mean IoU (without labels: the lowest validation
    loss), "last" the last one.
    workers: processes that read pairs; None chooses by the machine.
    devices, accelerator, precision, channels_last, compile, deterministic: how to compute. The batch size of
        a recipe is per device.
    """

    system: str
    data: str
    out: str
    encoder: str | None = None
    encoder_weights: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    without_labels: bool = False
    preset: str = "paper"
    recipe: dict[str, Any] = field(default_factory=dict)
    phases: dict[str, dict[str, Any]] = field(default_factory=dict)
    reuse: dict[str, str] = field(default_factory=dict)
    augmentation: dict[str, Any] = field(default_factory=dict)
    infrared_scaling: str = "full-range"
    split: str = "train"
    hold_out: float = 0.1
    validation: str | None = None
    select: Literal["best", "last"] = "best"
    seed: int = 0
    deterministic: bool = False
    precision: Precision = "float32"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int = 1
    workers: int | None = None
    channels_last: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        if self.split == "test" or self.validation == "test":
            raise OptionError(
                "the test split is for testing: train on another one, and let hold_out or validation choose"
            )
        if not isinstance(self.without_labels, bool):
            raise OptionError(f"without_labels is true or false, not {quoted(self.without_labels)}")
        if not 0 <= self.hold_out < 1:
            raise OptionError(f"hold_out is a share in [0, 1), not {quoted(self.hold_out)}")
        if self.seed < 0:
            raise OptionError(f"the seed must be 0 or more, not {quoted(self.seed)}")
        if self.devices < 1:
            raise OptionError(f"devices must be 1 or more, not {quoted(self.devices)}")
        if self.workers is not None and self.workers < 0:
            raise OptionError(f"workers must be 0 or more, not {quoted(self.workers)}")
        if self.accelerator not in ("auto", "cpu", "gpu"):
            raise OptionError(f"accelerator must be auto, cpu or gpu, not {quoted(self.accelerator)}")

    def recipe_of(self, phase: str | None = None) -> Recipe:
        """The recipe of a phase, or the one that all start from: the preset's, the system's, then ours.

        Raises OptionError for a preset, a field or a value that does not exist.
        """
        from crossband.systems import system_class

        system = system_class(self.system)
        made = preset(self.preset, system.recipes)
        if phase is None:
            return made.replace(self.recipe)
        of_phase = system.phase_recipes.get(self.preset, {}).get(phase, {})
        return made.replace(of_phase).replace(self.recipe).replace(self.phases.get(phase, {}))

    def make_augmentation(self, phase: str | None = None) -> Augmentation:
        """The preset's augmentation with the given changes; of a phase, or the one that all start from.

        Raises OptionError for a field or a value that does not exist.
        """
        from crossband.systems import system_class

        known = {f.name for f in fields(Augmentation)}
        unknown = sorted(set(self.augmentation) - known)
        if unknown:
            raise OptionError(f"augmentation has no {', '.join(unknown)}; it has {', '.join(sorted(known))}")
        system = system_class(self.system)
        of_phase = system.phase_augmentations.get(self.preset, {}).get(phase or "", {})
        values = {**system.augmentations.get(self.preset, {}), **of_phase, **self.augmentation}
        return Augmentation(**check_types("augmentation", get_type_hints(Augmentation), values))

    def system_arguments(self) -> dict[str, Any]:
        """What `create` takes after the number of classes.

        Raises OptionError for a value of the wrong type, and for an option that is not the system's own.
        """
        from crossband.systems import system_class

        given_elsewhere = {
            "classes": "the data tell the number of classes",
            "encoder": "give it as encoder, not among the system's options",
            "encoder_weights": "give it as encoder_weights, not among the system's options",
        }
        for name, mend in given_elsewhere.items():
            if name in self.options:
                raise OptionError(f"options.{name}: {mend}")
        hints = {**get_type_hints(system_class(self.system).__init__), "preset": str}
        # `create` itself says which options it does not know.
        known = {name: value for name, value in self.options.items() if name in hints}
        options = {**self.options, **check_types("options", hints, known)}
        return {"encoder": self.encoder, "encoder_weights": self.encoder_weights, **options}

    def to_yaml(self) -> str:
        return yaml_text(asdict(self))

    @classmethod
    def from_yaml(cls, path: Path) -> TrainOptions:
        """Read what `to_yaml` wrote. Raises OptionError, naming the file, for anything else."""
        values = read_yaml(path)
        try:
            return cls(**values)
        except (TypeError, OptionError) as error:
            raise OptionError(
                f"{path} does not hold the options of a training run ({first_line(error)})"
            ) from error
