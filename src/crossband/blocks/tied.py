"""Tied branches: shared convolutions, separate batch norms.

Two ordinary networks of the same shape, of which one holds *the same Parameter objects* as the other,
except in its normalisation layers. Nothing is switched at run time: each branch is a plain network that
can be called, saved and exported on its own, and a gradient step on one moves both.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

NORMS = (_BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm2d)
"""What counts as a norm layer."""


def tie(
    source: nn.Module, target: nn.Module, *, private: Iterable[nn.Module] = (), norms: bool = False
) -> None:
    """Make ``target`` share ``source``'s parameters, in place; norm layers stay its own.

    private: parts of the source whose counterparts in the target stay the target's own as well.
    norms: share the parameters of the norm layers too; the target keeps running statistics of its own.
    Raises ValueError if the two are not of the same shape.
    """
    kept = {id(module) for part in private for module in part.modules()}
    others = dict(target.named_modules())
    for name, module in source.named_modules():
        if (isinstance(module, NORMS) and not norms) or id(module) in kept:
            continue
        for key, parameter in module.named_parameters(recurse=False):
            counterpart = getattr(others.get(name), key, None)
            if counterpart is None or counterpart.shape != parameter.shape:
                raise ValueError(f"cannot tie {name}.{key}: the two networks differ in shape")
            setattr(others[name], key, parameter)


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Give ``target`` the values of ``source``'s parameters and buffers; they stay two.

    Raises RuntimeError if the two are not of the same shape.
    """
    # Unbound: some of smp's encoders override it to leave out weights that downloaded files have.
    nn.Module.load_state_dict(target, source.state_dict())
