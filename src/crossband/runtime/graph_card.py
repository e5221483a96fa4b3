"""The card inside an exported graph: all that must be known to use it, without the run that it came from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from crossband.card import Card
from crossband.errors import CrossbandError, WeightsError, first_line, quoted
from crossband.option_types import check_types, types_of
from crossband.version import __version__
from crossband.words import Band, Bands, ExportFormat, ExportPrecision, LevelType, Support

FORMAT = 1
KEY = "crossband"
"""Of the metadata: of an ONNX file, or under ``framework`` of OpenVINO's runtime information."""


@dataclass(frozen=True, kw_only=True)
class GraphCard:
    """What an exported graph is.

    run: the card of the run. bands, support: what the graph answers for, and whether the system was designed
    for it.
    types: how each band is taken: visible (B, H, W, 3), infrared (B, H, W). outputs: their names.
    precision: what the weights are stored or computed in. float_layers: of int8, those that stay float.
    opset: of ONNX. made_with: versions of what made the graph. checked: what the parity check found.
    """

    run: Card
    bands: Bands
    support: Support
    types: dict[Band, LevelType]
    outputs: tuple[str, ...]
    format_of_file: ExportFormat
    precision: ExportPrecision = "fp32"
    opset: int | None = None
    float_layers: tuple[str, ...] = ()
    made_with: dict[str, str] = field(default_factory=dict)
    checked: dict[str, Any] = field(default_factory=dict)
    crossband: str = __version__
    created: str = ""
    format: int = FORMAT

    @property
    def segments(self) -> bool:
        """Whether the graph gives labels."""
        return "labels" in self.outputs

    @property
    def fuses(self) -> bool:
        """Whether the graph gives a fused picture."""
        return "fused" in self.outputs

    def to_json(self) -> str:
        return json.dumps({**asdict(self), "run": self.run.to_fields()})

    def metadata(self) -> dict[str, str]:
        """What a file carries: the whole card, and for programs without a JSON reader its main parts.

        crossband: the card. class_names: one a line. palette: ``#rrggbb`` by class, with spaces between.
        infrared_scaling: the rule that is in the graph.
        """
        plain = {KEY: self.to_json(), "infrared_scaling": self.run.infrared_scaling}
        if self.run.classes is not None:
            plain["class_names"] = "\n".join(self.run.classes.names)
            plain["palette"] = " ".join("#" + bytes(colour).hex() for colour in self.run.classes.palette)
        return plain


def read_graph_card(metadata: Mapping[str, str], path: object) -> GraphCard:
    """The card in a file's metadata. Raises WeightsError, naming the file, where there is none to be used."""
    text = metadata.get(KEY)
    if text is None:
        raise WeightsError(f"{path} was not exported by Crossband: it holds no card")
    try:
        fields = json.loads(text)
        if fields["format"] > FORMAT:
            raise WeightsError(
                f"{path} is of format {fields['format']}; this Crossband reads up to {FORMAT}: update it"
            )
        run = Card.from_fields(fields.pop("run"))
        hints = {name: hint for name, hint in types_of(GraphCard).items() if name != "run"}
        unknown = sorted(set(fields) - set(hints))
        if unknown:
            raise ValueError(f"it has a field {quoted(unknown[0])}, which no card has")
        return GraphCard(run=run, **check_types("card", hints, fields))
    except WeightsError:
        raise
    except (CrossbandError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{path} holds no card of Crossband ({first_line(error)})") from error
