"""CSK-Net where a share of the training pairs exchanges nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from crossband.errors import OptionError
from crossband.systems.csknet.network import CSKNet
from tiny_systems import csknet, images, randomise_norms

SITES: list[dict[str, Any]] = [
    {},
    {"exchange_direction": "to-infrared"},
    {"exchange_site": "dw_bn", "encoder": "mobilenet_v2"},
]
PAIRS = 6


def system_with(**options: Any) -> CSKNet:
    """The same weights whatever the options are. In training, but for norms and dropout."""
    torch.manual_seed(0)
    system = csknet(exchange_threshold=0.4, **options)
    randomise_norms(system)
    system.eval()
    system.training = True
    return system


def logits_of(system: CSKNet) -> Tensor:
    visible, infrared = images(64, 96)
    several = [
        torch.cat([band + 0.1 * number for number in range(PAIRS // 2)]) for band in (visible, infrared)
    ]
    with torch.no_grad():
        logits = system(*several).logits
    assert logits is not None
    return logits


@pytest.mark.parametrize("site", SITES, ids=str)
def test_every_pair_exchanges_as_it_is_or_not_at_all(site: dict[str, Any]) -> None:
    whole, apart = logits_of(system_with(**site)), logits_of(system_with(exchange=False, **site))
    half = system_with(exchange_dropout=0.5, **site)
    torch.manual_seed(0)
    drawn = logits_of(half)
    as_apart = [torch.allclose(ours, theirs, atol=1e-5) for ours, theirs in zip(drawn, apart, strict=True)]
    as_whole = [torch.allclose(ours, theirs, atol=1e-5) for ours, theirs in zip(drawn, whole, strict=True)]
    assert [one != other for one, other in zip(as_apart, as_whole, strict=True)] == [True] * PAIRS
    assert 0 < sum(as_apart) < PAIRS
    again = logits_of(half)
    assert not torch.allclose(again, drawn, atol=1e-5), "drawn anew in each step"
    assert torch.allclose(logits_of(system_with(exchange_dropout=1.0, **site)), apart, atol=1e-5)


def test_nothing_is_dropped_in_evaluation() -> None:
    always = system_with(exchange_dropout=1.0).eval()
    assert torch.equal(logits_of(always), logits_of(system_with()))


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(OptionError, match=r"exchange_dropout must lie in \[0, 1\]"):
        csknet(exchange_dropout=share)


def test_nothing_can_be_dropped_where_nothing_is_exchanged() -> None:
    with pytest.raises(OptionError, match="there are none with exchange false"):
        csknet(exchange=False, exchange_dropout=0.5)
