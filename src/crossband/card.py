"""What must be known to use weights or an exported graph, and what should be known to judge them.

Nothing heavy is loaded here, so that a graph can be used without PyTorch.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from crossband.errors import quoted
from crossband.option_types import check_types, types_of
from crossband.pairs.base import Classes
from crossband.version import __version__

FORMAT = 2
CARD_NAME = "card.json"


@dataclass
class Card:
    """What must be known to use weights, and what should be known to judge them.

    system, network, classes: rebuild the network with ``create(system, len(classes), **network)``.
    classes: what the ids of a label mean; None for a system that only fuses.
    variant: the name that the network's options started from. loss: what the training was made of.
    encoder_origin: where the encoder's first weights came from; None is a random start.
    infrared_scaling: the rule that turns stored infrared values into [0, 1].
    channels: the order and range of the inputs, in words. bands: what the system runs on, and how.
    monitor: the run's own band monitor as data (`crossband.trained_monitor`); None without one.
    weights_sha256: of ``weights.safetensors``, so that damage is found; None in cards of earlier versions.
    protocol: the one whose mean IoU is quoted. training: data, recipe, seed, what chose the checkpoint, ...
    """

    system: str
    network: dict[str, Any]
    classes: Classes | None
    infrared_scaling: str
    bands: dict[str, str]
    parameters: dict[str, int]
    variant: str | None = None
    loss: dict[str, Any] = field(default_factory=dict)
    encoder_origin: str | None = None
    channels: str = "visible: R, G, B, sRGB in [0, 1]; infrared: one channel in [0, 1]"
    protocol: str = "present"
    training: dict[str, Any] = field(default_factory=dict)
    crossband: str = __version__
    torch: str = ""
    git_revision: str | None = None
    created: str = ""
    weights_sha256: str | None = None
    monitor: dict[str, Any] | None = None
    format: int = FORMAT

    def to_fields(self) -> dict[str, Any]:
        """The card as plain data; a colour of the palette is written as ``#rrggbb``."""
        fields = asdict(self)
        if self.monitor is None:
            # Versions that know of no monitor read such cards too.
            del fields["monitor"]
        if self.classes is not None:
            fields["classes"]["palette"] = ["#" + bytes(colour).hex() for colour in self.classes.palette]
        return fields

    def to_json(self) -> str:
        """The card as JSON."""
        return json.dumps(self.to_fields(), indent=2) + "\n"

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Card:
        """The card that `to_fields` gave as data.

        Raises ValueError, KeyError, TypeError, AttributeError or OptionError for anything else.
        """
        fields = dict(fields)
        if not isinstance(fields["network"], dict) or not isinstance(fields["loss"], dict):
            raise ValueError("its network or its loss is no mapping")
        classes = fields.pop("classes")
        hints = types_of(cls)
        unknown = sorted(set(fields) - set(hints))
        if unknown:
            raise ValueError(f"it has a field {quoted(unknown[0])}, which no card has")
        fields = check_types("card", hints, fields)
        return cls(classes=None if classes is None else _classes(classes), **fields)


def _classes(fields: dict[str, Any]) -> Classes:
    return Classes(
        names=tuple(fields["names"]),
        palette=tuple(_colour(text) for text in fields["palette"]),
        ignore=tuple(fields["ignore"]),
    )


def _colour(text: str) -> tuple[int, int, int]:
    """(red, green, blue) of ``#rrggbb``. Raises ValueError for anything else."""
    red, green, blue = bytes.fromhex(text.removeprefix("#"))
    return red, green, blue
