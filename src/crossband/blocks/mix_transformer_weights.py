"""Where published weights of the Mix Transformer are, and what their tensors are called there.

The weights of its authors are under NVIDIA's source code licence: for research, not for commercial use.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

# Names of tensors as the authors' files and those of the hub have them, and what they are here. The hub
# counts levels from 0.
_AUTHORS = (
    (r"^patch_embed(\d)\.", r"embed\1."),
    (r"^block(\d)\.", r"stage\1."),
    (r"\.attn\.sr\.", ".attn.reduce."),
    (r"\.attn\.norm\.", ".attn.reduce_norm."),
    (r"\.mlp\.dwconv\.dwconv\.", ".ffn.dw."),
    (r"\.mlp\.", ".ffn."),
)
_HUB = (
    (r"^patch_embeddings\.(\d)\.proj\.", r"embed<\1>.proj."),
    (r"^patch_embeddings\.(\d)\.layer_norm\.", r"embed<\1>.norm."),
    (r"^block\.(\d)\.", r"stage<\1>."),
    (r"^layer_norm\.(\d)\.", r"norm<\1>."),
    (r"\.layer_norm_(\d)\.", r".norm\1."),
    (r"\.attention\.self\.query\.", ".attn.q."),
    (r"\.attention\.self\.key\.", ".attn.k."),
    (r"\.attention\.self\.value\.", ".attn.v."),
    (r"\.attention\.self\.sr\.", ".attn.reduce."),
    (r"\.attention\.self\.layer_norm\.", ".attn.reduce_norm."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.mlp\.dense(\d)\.", r".ffn.fc\1."),
)


def hub_repository(name: str) -> str:
    """The hub's repository of ImageNet weights for ``mit_b0`` to ``mit_b5``."""
    return f"nvidia/{name.replace('_', '-')}"


def own_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of a Mix Transformer with the names that its tensors have here.

    state: the authors' (``block1.0.attn.sr.weight``), the hub's (``encoder.block.0.0.attention...``, with
    keys and values apart), or one of these within a network for classification or segmentation; what is
    not the encoder's keeps its name. A state dict with names as here is returned as it is.
    """
    named = {_own_name(key): value for key, value in state.items()}
    for key in [key for key in named if ".attn.k." in key]:
        values = key.replace(".attn.k.", ".attn.v.")
        if values in named:
            both = torch.cat([named.pop(key), named.pop(values)])
            named[key.replace(".attn.k.", ".attn.kv.")] = both
    return named


def _own_name(key: str) -> str:
    key = re.sub(r"^(backbone\.|(segformer\.)?encoder\.)", "", key)
    for pattern, replacement in (*_HUB, *_AUTHORS):
        key = re.sub(pattern, replacement, key)
    return re.sub(r"<(\d)>", lambda level: str(int(level[1]) + 1), key)
