"""What a card keeps of a training, in words: for pages, the terminal and model cards.

Cards of other versions may lack any of it, or have it of another kind: what cannot be told is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crossband.systems.registry import is_own_variant
from crossband.text import counted, spoken_time


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
        "validated on": _validation(training.get("validation")),
        **_by_phase("optimised", training.get("recipes"), recipe_words),
        **_by_phase("kept", training.get("checkpoint"), kept_words),
        "recalibrated": _recalibration(training.get("recalibrated")),
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


def _by_phase(what: str, phases: Any, words: Any) -> dict[str, str]:
    if not isinstance(phases, Mapping):
        return {}
    told = {phase: words(fields) for phase, fields in phases.items() if isinstance(fields, Mapping)}
    return {what if len(told) == 1 else f"{what}, phase {phase}": text for phase, text in told.items()}


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
    seconds = training.get("seconds")
    parts = [
        _text(training.get("hardware")),
        _text(training.get("precision")),
        spoken_time(seconds) if isinstance(seconds, int | float) else "",
    ]
    return ", ".join(filter(None, parts))


def _text(value: Any) -> str:
    return "" if value is None else str(value)
