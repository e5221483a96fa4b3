"""What a card keeps of a training, in words: for pages, the terminal and model cards.

Cards of other versions may lack any of it, or have it of another kind: what cannot be told is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from crossband.systems.registry import is_own_variant
from crossband.text import counted, spoken_time

_PHOTOMETRY = {"visible": ("brightness", "contrast", "saturation"), "infrared": ("gain", "offset", "noise")}
"""The parts of an augmentation that change the values of a band."""


def system_words(system: str, variant: Any) -> str:
    """A system and the variant of it that was trained, so that no variant passes for the paper's method.

    >>> system_words("csknet", "firm"), system_words("csknet", None)
    ('csknet, variant firm', 'csknet')
    """
    return f"{system}, variant {variant}" if isinstance(variant, str) else system


def variant_words(system: str, variant: str) -> str:
    """A variant, and that it is ours where it is.

    >>> variant_words("csknet", "firm"), variant_words("mrfs", "as-published")
    ("firm, ours and not the paper's", 'as-published')
    """
    return f"{variant}, ours and not the paper's" if is_own_variant(system, variant) else variant


def training_words(training: Mapping[str, Any]) -> dict[str, str]:
    """What a training was made of and which weights it kept, by what is told.

    training: `Card.training`. One entry a phase for how it was optimised and for what was kept.
    """
    told = {
        "trained on": _data(training),
        "images": _images(training.get("trained_on")),
        "validated on": _validation(training.get("validation")),
        **_by_phase("optimised", training.get("recipes"), recipe_words),
        **_by_phase("kept", training.get("checkpoint"), kept_words),
        "recalibrated": _recalibration(training.get("recalibrated")),
        "augmented": augmentation_words(training.get("augmentation")),
        **_by_phase("augmented", training.get("phase_augmentations"), _of_a_phase, own=True),
        "bands": _breaking(training.get("augmentation")),
        "seed": _text(training.get("seed")),
        "computed on": _computing(training),
    }
    return {name: text for name, text in told.items() if text}


def kept_words(choice: Mapping[str, Any]) -> str:
    """Which epoch of a phase was kept, and why: what the card has for it under ``checkpoint``.

    >>> kept_words({"chosen_by": "best mean IoU (both) on val", "epoch": 4, "mean_iou": 0.532})
    'epoch 4, best mean IoU (both) on val: 53.2 %'
    """
    if "reused" in choice:
        return f"taken from {choice['reused']}"
    said = f"epoch {choice.get('epoch', 'unknown')}, {choice.get('chosen_by', 'chosen by nothing known')}"
    if isinstance(score := choice.get("mean_iou"), float):
        return f"{said}: {100 * score:.1f} %"
    if isinstance(loss := choice.get("loss"), float):
        return f"{said}: {loss:.4g}"
    return said


def recipe_words(recipe: Mapping[str, Any]) -> str:
    """A recipe's main figures: what the card has for a phase under ``recipes``."""
    parts = [
        counted(recipe["epochs"], "epoch") if isinstance(recipe.get("epochs"), int) else "",
        f"batches of {recipe['batch_size']}" if "batch_size" in recipe else "",
        str(recipe.get("optimizer", "")),
        f"learning rate {recipe['lr']:g}" if isinstance(recipe.get("lr"), float) else "",
        f"{recipe['schedule']} schedule" if "schedule" in recipe else "",
        f"weight decay {recipe['weight_decay']:g}" if isinstance(recipe.get("weight_decay"), float) else "",
    ]
    return ", ".join(filter(None, parts))


def augmentation_words(augmentation: Any) -> str:
    """How training pairs were changed, the breaking of bands aside; "" where they were not.

    >>> augmentation_words({"flip": 0.5, "scale": [0.5, 2.0], "crop": [128, 192], "gain": 0.6, "noise": 0.0})
    'flipped in 50 % of the pairs, scaled by 0.5 to 2, cropped to 128 x 192, infrared gain 0.6'
    """
    if not isinstance(augmentation, Mapping):
        return ""
    flip, scale, crop = (augmentation.get(name) for name in ("flip", "scale", "crop"))
    parts = [
        f"flipped in {100 * flip:g} % of the pairs" if isinstance(flip, int | float) and flip else "",
        f"scaled by {_span(*scale)}" if _two_numbers(scale) and tuple(scale) != (1, 1) else "",
        "cropped to {:g} x {:g}".format(*crop) if _two_numbers(crop) else "",
    ]
    for band, names in _PHOTOMETRY.items():
        for name in names:
            if isinstance(value := augmentation.get(name), int | float) and value:
                parts.append(f"{band} {name} {value:g}")
    return ", ".join(filter(None, parts))


def _of_a_phase(augmentation: Mapping[str, Any]) -> str:
    """All that an augmentation does: one of a phase stands in place of that of the others."""
    broken = _breaking(augmentation)
    parts = [augmentation_words(augmentation), f"of the bands {broken}" if broken else ""]
    return "; ".join(filter(None, parts)) or "not at all"


def _two_numbers(value: Any) -> TypeGuard[Sequence[float]]:
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(isinstance(number, int | float) for number in value)
    )


def _span(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _by_phase(what: str, phases: Any, words: Any, *, own: bool = False) -> dict[str, str]:
    """own: each differs from what is said of the others, so that a single one has its phase named too."""
    if not isinstance(phases, Mapping):
        return {}
    told = {phase: words(fields) for phase, fields in phases.items() if isinstance(fields, Mapping)}
    alone = len(told) == 1 and not own
    return {what if alone else f"{what}, phase {phase}": text for phase, text in told.items()}


def _images(trained_on: Any) -> str:
    """What the images store, by band: the kinds of numbers, and where nearly all of these lie."""
    if not isinstance(trained_on, Mapping):
        return ""
    bands = {band: found for band, found in trained_on.items() if isinstance(found, Mapping)}
    told = []
    for band, found in bands.items():
        types, low, high = (found.get(name) for name in ("types", "low", "high"))
        if isinstance(types, Mapping) and _two_numbers([low, high]):
            told.append(f"{band} {' or '.join(map(str, types))}, nearly all from {low:g} to {high:g}")
    return "; ".join(told)


def _data(training: Mapping[str, Any]) -> str:
    if "data" not in training:
        return ""
    split = f", split {training['split']}" if "split" in training else ""
    pairs = f": {counted(training['pairs'], 'pair')}" if isinstance(training.get("pairs"), int) else ""
    return f"{training['data']}{split}{pairs}"


def _validation(validation: Any) -> str:
    if not isinstance(validation, Mapping) or "split" not in validation:
        return ""
    pairs = validation.get("pairs")
    return f"{validation['split']}" + (f": {counted(pairs, 'pair')}" if isinstance(pairs, int) else "")


def _recalibration(told: Any) -> str:
    if not isinstance(told, Mapping) or "system" not in told:
        return ""
    split = f", on infrared of split {told['split']}" if "split" in told else ""
    return f"the batch norms of {system_words(str(told['system']), told.get('variant'))}{split}"


def _breaking(augmentation: Any) -> str:
    """How often a band was broken or missing in training, for how much of it; "" where none was."""
    if not isinstance(augmentation, Mapping):
        return ""
    shares = {
        name: f"{100 * share:g} %"
        for name in ("corrupted", "band_dropout", "broken_epochs")
        if isinstance(share := augmentation.get(name), int | float) and share
    }
    parts = [
        f"one broken in {shares['corrupted']} of the pairs" if "corrupted" in shares else "",
        f"one left out in {shares['band_dropout']} of the steps" if "band_dropout" in shares else "",
    ]
    said = ", ".join(filter(None, parts))
    first = shares.get("broken_epochs", "100 %")
    return f"{said}, in the first {first} of the epochs" if said and first != "100 %" else said


def _computing(training: Mapping[str, Any]) -> str:
    seconds, devices = training.get("seconds"), training.get("devices")
    parts = [
        _text(training.get("hardware")),
        counted(devices, "device") if isinstance(devices, int) and devices > 1 else "",
        _text(training.get("precision")),
        "deterministic" if training.get("deterministic") is True else "",
        spoken_time(seconds) if isinstance(seconds, int | float) else "",
    ]
    return ", ".join(filter(None, parts))


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def monitor_words(monitor: Mapping[str, Any] | None) -> str:
    """What a card's ``monitor`` is: none, or what it gained when it was trained."""
    if monitor is None:
        return "none of its own"
    facts = monitor.get("facts", {})
    told = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts.items())
    return f"its own, trained with it ({told})"
