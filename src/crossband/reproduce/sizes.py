"""How many parameters a row's network has: as the paper has it, and as it was run here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch

from crossband.card import Card
from crossband.errors import CrossbandError
from crossband.info import Parameters, count_all
from crossband.pairs.benchmarks import BENCHMARKS
from crossband.reproduce.table import Row, Table
from crossband.systems import create, make_training, split_options
from crossband.words import Bands


def published_size(row: Row, table: Table) -> Parameters | None:
    """Parameters on the row's bands at the paper's size, with the classes of the table's first benchmark.

    None for a network that cannot be built.
    """
    benchmark = table.benchmarks[0]
    network, loss = split_options(row.system, {**row.options, **row.at_test})
    network["variant"] = row.variants.get(benchmark)
    return _size(row.system, len(BENCHMARKS[benchmark].classes), row.bands, _text(network), _text(loss))


def run_size(row: Row, card: Card) -> Parameters | None:
    """Parameters on the row's bands of a network that was trained here. None if it cannot be built."""
    classes = 0 if card.classes is None else len(card.classes)
    network = {**card.network, **row.at_test}
    return _size(card.system, classes, row.bands, _text(network), _text(card.loss))


def _text(options: Mapping[str, Any]) -> str:
    return json.dumps(options, sort_keys=True)


@lru_cache(maxsize=256)
def _size(system: str, classes: int, bands: Bands, network: str, loss: str) -> Parameters | None:
    """Counted on a network without weights. network, loss: as JSON, since mappings are no keys."""
    options = json.loads(network)
    try:
        with torch.device("meta"):
            built = create(system, classes or None, **options)
            built.given_training = make_training(system, variant=options.get("variant"), **json.loads(loss))
            return count_all(built)[bands]
    except CrossbandError:
        return None
