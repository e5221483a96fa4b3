"""What a band adds to the convolutions that it shares with the other: learnt apart, folded when deployed.

The form is that of LoRA (Hu et al., ICLR 2022, arXiv 2106.09685), which adds the product of two thin matrices
to a weight that stands still; here the weight is shared by two bands and goes on learning.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class BandAddition(nn.Module):
    """A shared weight (O, I, kh, kw) -> the weight of one band, which is the same at the start.

    Of the weight as a matrix of O rows and I kh kw columns, what is added is U V of the given rank: U starts
    at zero, V at random with variance 1 / columns. Depthwise convolutions, and those for which U and V would
    have no fewer elements than the weight, get an addition of their own full size: the former are few
    weights, and their rows are filters of one channel each, between which a low rank has no meaning.
    """

    def __init__(self, weight: Tensor, rank: int):
        super().__init__()
        rows, columns = weight.flatten(1).shape
        self.down: nn.Parameter | None = None
        if weight.shape[1] == 1 or rank * (rows + columns) >= rows * columns:
            rank = columns
        else:
            self.down = nn.Parameter(torch.randn(rank, columns).to(weight) / columns**0.5)
        self.up = nn.Parameter(weight.new_zeros(rows, rank))

    def forward(self, weight: Tensor) -> Tensor:
        added = self.up if self.down is None else self.up @ self.down
        return weight + added.view_as(weight)


def add_to_shared(one: nn.Module, other: nn.Module, rank: int, *, unread: Iterable[nn.Module]) -> None:
    """Give two tied branches additions, each its own, to the convolutions that they share, in place.

    unread: parts of the first that nothing runs, which get none, nor do their counterparts. The random state
    is left as it was, so that all that follows starts alike with and without.
    """
    skipped = {id(part) for module in unread for part in module.modules()}
    modules = zip(list(one.modules()), list(other.modules()), strict=True)
    with torch.random.fork_rng(devices=[]):
        for pair in modules:
            weights = [part.weight for part in pair if isinstance(part, nn.Conv2d)]
            if weights and weights[0] is weights[1] and id(pair[0]) not in skipped:
                for convolution in pair:
                    addition = BandAddition(weights[0].detach(), rank)
                    parametrize.register_parametrization(convolution, "weight", addition)


def copy_folded(branch: nn.Module, plain: nn.Module) -> None:
    """Give a plain network the values of a branch, additions folded into the weights; they stay two.

    Raises RuntimeError if the two are not of the same shape.
    """
    state = {key: value for key, value in branch.state_dict().items() if ".parametrizations." not in key}
    for name, part in branch.named_modules():
        if parametrize.is_parametrized(part, "weight"):
            state[f"{name}.weight"] = part.weight.detach()
    nn.Module.load_state_dict(plain, state)  # unbound, as in `copy_weights`


def copy_plain(plain: nn.Module, branch: nn.Module) -> None:
    """Give a branch the values of a plain network; its additions, which have no counterpart, stay."""
    state = plain.state_dict()
    own = {key: key.replace(".parametrizations.weight.original", ".weight") for key in branch.state_dict()}
    fitting = {key: state[name] for key, name in own.items() if name in state}
    nn.Module.load_state_dict(branch, fitting, strict=False)
