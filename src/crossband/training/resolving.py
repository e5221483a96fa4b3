"""What a training is, decided: one place where recipes, files, the command line and phases are put together.

What a field is, the last of these that speaks of it decides:

1. the default of the dataclass (`Recipe`, `Augmentation`, the system's settings and training);
2. for the network and the loss: the variant;
   for the recipe: the named recipe (`crossband.recipe.RECIPES`);
3. for recipe and augmentation: what the system makes of the recipe of that name, then what it makes of the
   phase under that name;
4. for augmentation: what ``robust`` adds (`crossband.training.robust`);
5. ``network``, ``loss``, ``recipe`` and ``augmentation`` of the file or the command line, of which the
   command line wins;
6. for the recipe: the file's ``phases``, for that phase.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from crossband.errors import OptionError
from crossband.option_types import check_types, types_of
from crossband.pairs.augmentation import Augmentation
from crossband.recipe import Recipe, named_recipe
from crossband.systems import list_systems, make_training, system_class
from crossband.systems.base import Training
from crossband.systems.creation import earlier_options, make_settings, with_encoder
from crossband.training.options import TrainOptions
from crossband.training.robust import ROBUST


@dataclass(frozen=True)
class ResolvedTraining:
    """A training in which everything is decided.

    network: what `create` takes beside the number of classes. training: what the system's phases come from.
    recipe_name: of the recipe that all phases start from. drops_bands: whether what ``robust`` adds includes
    band dropout, which not every system and not all pairs allow.
    """

    options: TrainOptions
    network: dict[str, Any]
    training: Training[Any]
    recipe_name: str
    drops_bands: bool = True

    def named(self) -> TrainOptions:
        """The options, and by name what they leave out to a default that earlier versions did not have.

        A file of them says the same to every later version.
        """
        variant, network = self.network["variant"], {**self.network}
        del network["variant"]
        settings = make_settings(self.options.system, variant, network)
        of_network, of_loss = earlier_options(self.options.system)
        return replace(
            self.options,
            network={**{name: getattr(settings, name) for name in of_network}, **self.options.network},
            loss={**{name: getattr(self.training, name) for name in of_loss}, **self.options.loss},
        )

    def recipe(self, phase: str | None = None) -> Recipe:
        """The recipe of a phase, or the one that all start from."""
        made = named_recipe(self.recipe_name, self.training.recipes)
        if phase is not None:
            made = made.replace(self.training.recipe_of(phase, self.recipe_name))
        given = {name: value for name, value in self.options.recipe.items() if name != "name"}
        return made.replace(given).replace(self.options.phases.get(phase or "", {}))

    def augmentation(self, phase: str | None = None) -> Augmentation:
        """The augmentation of a phase, or the one that all start from."""
        of_system = self.training.augmentations.get(self.recipe_name, {})
        of_phase = self.training.phase_augmentations.get(self.recipe_name, {}).get(phase or "", {})
        robust = dict(ROBUST) if self.options.robust else {}
        if not self.drops_bands:
            robust.pop("band_dropout", None)
        values = {**of_system, **of_phase, **robust, **self.options.augmentation}
        return Augmentation(**check_types("augmentation", types_of(Augmentation), values))


def resolve(options: TrainOptions) -> ResolvedTraining:
    """Put everything together that decides a training.

    Raises OptionError for a system that needs no training, and for a variant, a recipe, an option or a value
    that does not exist.
    """
    network = with_encoder(options.network, encoder=options.encoder, encoder_weights=options.encoder_weights)
    if "classes" in network:
        raise OptionError("network.classes: the data tell the number of classes")
    system = system_class(options.system)
    if options.without_labels and (not system.fuses or system.needs_labels):
        fusing = {name: one for name in list_systems() if (one := system_class(name)).fuses}
        able = [name for name, one in fusing.items() if one.trained_by and not one.needs_labels]
        why = "it fuses by what it segments" if system.fuses else "it does not fuse"
        raise OptionError(
            f"{options.system} cannot be trained without labels, since {why}; these can: {', '.join(able)}"
        )
    training = make_training(options.system, variant=options.variant, **options.loss)
    make_settings(options.system, options.variant, network)
    unknown = sorted(set(options.augmentation) - {f.name for f in fields(Augmentation)})
    if unknown:
        known = ", ".join(sorted(f.name for f in fields(Augmentation)))
        raise OptionError(f"augmentation has no {', '.join(unknown)}; it has {known}")
    name = options.recipe.get("name", "paper")
    if not isinstance(name, str):
        raise OptionError(f"recipe.name must be a text, not {name!r}")
    resolved = ResolvedTraining(options, {"variant": options.variant, **network}, training, name)
    resolved.recipe()
    resolved.augmentation()
    return resolved
