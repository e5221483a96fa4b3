"""Weights for the Mix Transformer: every public layout, from a local file or from the hub."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from crossband.blocks.encoder_weights import load_encoder_weights
from crossband.blocks.mix_transformer import SIZES, MixTransformer
from crossband.blocks.pyramid import build_pyramid
from crossband.errors import WeightsError
from stored_weights import WRITERS, as_safetensors, in_the_hubs_cache
from tiny_systems import one_line


def mix_transformer() -> MixTransformer:
    """A network whose every tensor is unlike the others, as no random start makes it."""
    torch.manual_seed(5)
    network = MixTransformer(SIZES["mit_tiny"]).eval()
    for parameter in network.parameters():
        parameter.data.normal_()
    return network


AUTHORS_ATTENTION = {"q": "q", "kv": "kv", "proj": "proj", "sr": "reduce", "norm": "reduce_norm"}
HUB_ATTENTION = {
    "self.query": "q",
    "self.sr": "reduce",
    "self.layer_norm": "reduce_norm",
    "output.dense": "proj",
}


def authors_layout(network: MixTransformer) -> dict[str, Tensor]:
    """The tensors under the names of SegFormer's own classification checkpoints, head included."""
    state, names = network.state_dict(), {}
    for i in (1, 2, 3, 4):
        names |= {f"patch_embed{i}.proj": f"embed{i}.proj", f"patch_embed{i}.norm": f"embed{i}.norm"}
        block, stage = f"block{i}.0", f"stage{i}.0"
        names |= {
            f"{block}.attn.{theirs}": f"{stage}.attn.{ours}" for theirs, ours in AUTHORS_ATTENTION.items()
        }
        names |= {f"{block}.mlp.fc{n}": f"{stage}.ffn.fc{n}" for n in (1, 2)}
        names |= {f"{block}.norm{n}": f"{stage}.norm{n}" for n in (1, 2)}
        names |= {f"{block}.mlp.dwconv.dwconv": f"{stage}.ffn.dw", f"norm{i}": f"norm{i}"}
    head = {"head.weight": torch.zeros(7, 64), "head.bias": torch.zeros(7)}
    return head | {
        f"{theirs}.{kind}": state[f"{ours}.{kind}"]
        for theirs, ours in names.items()
        for kind in ("weight", "bias")
        if f"{ours}.{kind}" in state
    }


def hub_layout(network: MixTransformer) -> dict[str, Tensor]:
    """The tensors under the names of the hub's repositories: keys and values apart, levels from 0."""
    state, found = network.state_dict(), {}
    for kind in ("weight", "bias"):
        for i in (0, 1, 2, 3):
            found[f"encoder.patch_embeddings.{i}.proj.{kind}"] = state[f"embed{i + 1}.proj.{kind}"]
            found[f"encoder.patch_embeddings.{i}.layer_norm.{kind}"] = state[f"embed{i + 1}.norm.{kind}"]
            found[f"encoder.layer_norm.{i}.{kind}"] = state[f"norm{i + 1}.{kind}"]
            block, stage = f"encoder.block.{i}.0", f"stage{i + 1}.0"
            keys, values = state[f"{stage}.attn.kv.{kind}"].chunk(2)
            found[f"{block}.attention.self.key.{kind}"] = keys.clone()
            found[f"{block}.attention.self.value.{kind}"] = values.clone()
            for theirs, ours in HUB_ATTENTION.items():
                if f"{stage}.attn.{ours}.{kind}" in state:
                    found[f"{block}.attention.{theirs}.{kind}"] = state[f"{stage}.attn.{ours}.{kind}"]
            for n in (1, 2):
                found[f"{block}.layer_norm_{n}.{kind}"] = state[f"{stage}.norm{n}.{kind}"]
                found[f"{block}.mlp.dense{n}.{kind}"] = state[f"{stage}.ffn.fc{n}.{kind}"]
            found[f"{block}.mlp.dwconv.dwconv.{kind}"] = state[f"{stage}.ffn.dw.{kind}"]
    return found


def within(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict as part of a segmentation network, whose decoder is there as well."""
    return {
        **{prefix + key: value for key, value in state.items()},
        "decode_head.linear_c.proj.bias": torch.ones(3),
    }


LAYOUTS: dict[str, Callable[[MixTransformer], dict[str, Tensor]]] = {
    "ours": nn.Module.state_dict,
    "authors": authors_layout,
    "authors' segmenter": lambda network: within("backbone.", authors_layout(network)),
    "hub": hub_layout,
    "hub's segmenter": lambda network: within("segformer.", hub_layout(network)),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_the_mix_transformer_is_read(layout: str, writer: str, tmp_path: Path) -> None:
    wanted = mix_transformer()
    network = MixTransformer(SIZES["mit_tiny"])
    load_encoder_weights(network, "mit_tiny", WRITERS[writer](LAYOUTS[layout](wanted), tmp_path))
    state = network.state_dict()
    assert all(torch.equal(state[key], value) for key, value in wanted.state_dict().items())


def test_the_hub_layout_is_what_transformers_writes(tmp_path: Path) -> None:
    from transformers import SegformerConfig, SegformerModel

    size = SIZES["mit_tiny"]
    config = SegformerConfig(depths=list(size.depths), hidden_sizes=list(size.channels))
    SegformerModel(config).save_pretrained(tmp_path)
    shapes = {key: value.shape for key, value in load_file(tmp_path / "model.safetensors").items()}
    assert shapes == {key: value.shape for key, value in hub_layout(mix_transformer()).items()}


@pytest.mark.parametrize("lost", ["key", "value"])
def test_keys_without_values_are_refused(lost: str, tmp_path: Path) -> None:
    state = hub_layout(mix_transformer())
    del state[f"encoder.block.2.0.attention.self.{lost}.weight"]
    with pytest.raises(WeightsError, match=r"1 tensors missing, 1 unknown.*stage3\.0\.attn\.kv\.weight"):
        load_encoder_weights(mix_transformer(), "mit_tiny", as_safetensors(state, tmp_path))


def test_another_size_of_the_mix_transformer_is_refused(tmp_path: Path) -> None:
    path = as_safetensors(MixTransformer(SIZES["mit_b0"]).state_dict(), tmp_path)
    with pytest.raises(WeightsError, match="does not fit encoder mit_tiny") as caught:
        load_encoder_weights(mix_transformer(), "mit_tiny", path)
    one_line(caught.value)


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_a_mix_transformer_in_the_hubs_cache(
    file: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = in_the_hubs_cache("nvidia/mit-tiny", file, tmp_path, monkeypatch)
    wanted = mix_transformer()
    state = {f"segformer.{key}": value for key, value in hub_layout(wanted).items()}
    state["classifier.weight"] = torch.zeros(7, 64)
    save_file(state, path) if file.endswith("safetensors") else torch.save(state, path)
    network = build_pyramid("mit_tiny", "imagenet")
    assert all(torch.equal(network.state_dict()[key], value) for key, value in wanted.state_dict().items())
