"""What a system is and costs, as text."""

from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from command_line import refused
from crossband.card_words import training_words
from crossband.cli import main
from crossband.errors import OptionError, WeightsError
from crossband.info import count_flops, describe
from crossband.pairs.base import Classes
from crossband.systems import create, list_systems, loss_options, network_options
from crossband.systems.base import Output
from crossband.weights import make_card, save_run
from tiny_systems import CLASSES, csknet, tiny


def test_flops_are_those_of_pytorchs_counter_on_the_plain_network() -> None:
    plain = smp.DeepLabV3Plus(
        "tu-test_efficientnet", encoder_weights=None, decoder_channels=16, classes=CLASSES
    ).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        plain(torch.zeros(1, 3, 64, 96))
    system = tiny("deeplabv3plus")
    assert count_flops(system, "visible", (64, 96)) == counter.get_total_flops() > 0
    # 49 x 81 is padded to the same size.
    assert count_flops(system, "visible", (49, 81)) == counter.get_total_flops()


@pytest.mark.parametrize("size", [(64, 96), (128, 160)])
def test_a_frozen_part_is_still_frozen_when_flops_were_counted(size: tuple[int, int]) -> None:
    system = tiny("deeplabv3plus").train()
    system.network.encoder.eval()
    modes = [module.training for module in system.modules()]
    count_flops(system, "visible", size)
    assert [module.training for module in system.modules()] == modes


def test_a_multiply_add_is_two_operations() -> None:
    system = tiny("deeplabv3plus")

    class OneConvolution(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.conv2d(image, torch.zeros(5, 3, 3, 3), padding=1)

    system.network = OneConvolution()  # type: ignore[assignment]
    system.run = lambda visible, infrared, features: Output(system.network(visible))  # type: ignore[method-assign]
    assert count_flops(system, "visible", (16, 32)) == 2 * 16 * 32 * 5 * 3 * 9


@pytest.mark.parametrize("size", [(16, 32), (128, 160)])
def test_attention_is_two_matrix_products(size: tuple[int, int]) -> None:
    """Also of a large image, of which the shapes alone are followed."""
    system = tiny("deeplabv3plus")

    class OneAttention(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            tokens = image[:, :, ::8, ::8].flatten(2).mT
            keys = tokens[:, :10]
            return torch.nn.functional.scaled_dot_product_attention(tokens, keys, keys)

    system.network = OneAttention()  # type: ignore[assignment]
    system.run = lambda visible, infrared, features: Output(system.network(visible))  # type: ignore[method-assign]
    tokens = size[0] * size[1] // 64
    assert count_flops(system, "visible", size) == 2 * 2 * tokens * min(tokens, 10) * 3


@pytest.mark.parametrize("training", [True, False])
def test_counting_leaves_the_system_as_it_was(training: bool) -> None:
    system = csknet().train(training)
    before = {key: value.clone() for key, value in system.state_dict().items()}
    count_flops(system, "both", (32, 48))
    assert system.training is training
    assert system.visible.training is training
    assert all(torch.equal(value, before[key]) for key, value in system.state_dict().items())


def row(text: str, bands: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.split()[:1] == [bands]]
    return line.split()


def test_csknet_by_name() -> None:
    text = describe("csknet", classes=9, size="64x96")
    assert "csknet: CSK-Net" in text
    assert "arXiv 2312.02240" in text
    assert "GFLOPs at 64 x 96" in text
    both, infrared, visible = (row(text, bands) for bands in ("both", "infrared", "visible"))
    # Dead: the last convolution of EfficientNet-B3's classifier and its batch norm, one for each branch.
    # Only trained: the teacher (a DeepLabV3+) and four projection heads.
    teacher, heads = 11_682_241, sum(c * c + c + c * 128 + 128 for c in (32, 48, 136, 384))
    assert both[1:5] == ["designed", "14,221,283", "595,968", f"{teacher + heads:,}"]
    everything = 14_221_283 + teacher + heads
    assert infrared[1:5] == ["designed", "11,682,241", "592,896", f"{everything - 11_682_241:,}"]
    assert visible[1:5] == ["fallback", "11,682,241", "592,896", f"{everything - 11_682_241:,}"]
    baseline = row(describe("deeplabv3plus", classes=9, size="64x96"), "visible")
    assert baseline[1:5] == ["designed", "11,682,241", "592,896", "0"]
    assert infrared[5:] == baseline[5:]


@pytest.mark.parametrize("name", list_systems())
def test_every_system_lists_its_options(name: str) -> None:
    encoder = "mobilenetv3_small_050" if "encoder" in network_options(name) else None
    lines = describe(name, classes=CLASSES, encoder=encoder, size="32X48").splitlines()
    for option, default in {**network_options(name), **loss_options(name)}.items():
        (place,) = (
            place
            for place, line in enumerate(lines)
            if line.partition("; here ")[0] == f"  {option} = {default!r}"
        )
        # What it is, below its name, in words of its own.
        assert lines[place + 1].startswith("      ")
        assert not lines[place + 1].lstrip().startswith(("see ", "as in "))
        if option == "encoder_weights":
            assert '"imagenet"' in lines[place + 1]


def test_variants_are_told_apart(tmp_path: Path) -> None:
    assert "chosen by --variant: firm" in describe("csknet", classes=CLASSES, size="32x48")
    assert "--variant" not in describe("deeplabv3plus", classes=CLASSES, size="32x48")
    system, classes = csknet(variant="firm"), Classes(names=tuple("abcde"), palette=((0, 0, 0),) * CLASSES)
    save_run(tmp_path, system, make_card(system, classes, "full-range", {}, variant="firm"))
    assert "variant: firm, ours and not the paper's\n" in describe(str(tmp_path), size="32x48")


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What ``crossband info`` prints, of a small image."""
    assert main(["info", *arguments, "--size", "64x64"]) == 0
    return capsys.readouterr().out


def test_a_variant_and_options_of_the_network_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """The figures are those of docs/systems/disoptnet.md, amdanet.md and cddfuse.md."""
    plain = told(capsys, "disoptnet", "--network.head_kernel", "1")
    assert row(plain, "infrared")[2] == "22,767,952"
    assert "\n  head_kernel = 3; here 1\n" in plain
    published = told(capsys, "amdanet", "--encoder", "mit_b1", "--variant", "as-published")
    assert published.startswith("amdanet, variant as-published: AMDANet")
    assert row(published, "both")[2] == "40,352,924"
    assert "\nvariant: as-published\n" in published
    assert "\n  encoder = 'mit_b4'; here 'mit_b1'\n" in published
    light = told(capsys, "cddfuse", "--variant", "light", "--encoder", "test_efficientnet")
    assert "\nvariant: light, ours and not the paper's\n" in light
    # Of the loss too, whose values a variant has.
    assert "\n  reconstruction = True; here False\n" in light


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["csknet", "--variant", "frim"], "csknet has no variant 'frim'; it has firm"),
        (
            ["csknet", "--network.exchnage", "false"],
            "csknet has no network option exchnage; did you mean exchange",
        ),
        (["csknet", "--network.contrastive_weight", "1"], "csknet has no network option contrastive_weight"),
        (["csknet", "--network.classes", "3"], "csknet has no network option classes"),
        (["csknet", "--network.exchange", "maybe"], "csknet.exchange must be true or false"),
        (
            ["csknet", "--encoder", "a", "--network.encoder", "b"],
            "network.encoder is 'b', but encoder is 'a'",
        ),
        (["RUN", "--variant", "firm"], "is what it was made as: leave out --variant"),
        (["RUN", "--encoder", "a", "--network.exchange", "false"], "leave out --encoder and --network"),
        (["RUN", "--classes", "3"], "is what it was made as: leave out --classes"),
        (["neither", "--variant", "firm"], "'neither' is neither a run folder nor a system"),
    ],
)
def test_variants_and_options_that_cannot_be_are_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    system, classes = csknet(), Classes(names=tuple("abcde"), palette=((0, 0, 0),) * CLASSES)
    save_run(tmp_path, system, make_card(system, classes, "full-range", {}))
    line = refused(["info", *(str(tmp_path) if word == "RUN" else word for word in arguments)], capsys)
    assert message in line


def test_a_system_without_weights() -> None:
    text = describe("laplacian", size="32x48")
    assert row(text, "both") == ["both", "designed", "0", "0", "0", "-"]
    assert row(text, "visible") == ["visible", "fallback", "0", "0", "0", "-"]
    assert "ready without training; it has no weights, and its operations are not counted" in text
    assert "multiply-add" not in text
    assert "options of the network and their defaults, set by --network.NAME:\n  levels = 4\n" in text
    assert text.endswith("larger shapes of both bands")
    assert describe("average", size="32x48").endswith("options: none")


def test_a_system_that_brings_its_weights_is_counted_as_others_are() -> None:
    text = describe("learned", size="480x640")
    # Multiply-adds per pixel, by hand, at 8 channels in 2 heads.
    attention = 8 * 24 + 8 * 8 + 2 * 2 * 4 * 4
    restormer = attention + 24 * 9 + 8 * 32 + 32 * 9 + 16 * 8
    base = attention + 24 * 24 * 9 + 8 * 16 + 16 * 2 * 9 + 8 * 8
    detail = 8 * 8 + 3 * (4 * 8 + 8 * 9 + 8 * 4)
    encoder, decoder = 8 * 9 + restormer + base + detail, 26 * 8 + restormer + 8 * 4 * 9 + 4 * 2 * 9
    flops = 2 * (2 * encoder + base + detail + decoder) * 480 * 640
    assert row(text, "both") == ["both", "designed", "15,864", "0", "0", f"{flops / 1e9:.1f}"]
    assert row(text, "visible") == ["visible", "fallback", "0", "0", "0", "0.0"]
    assert "(ready without training; dead: " in text


def test_the_list_of_systems_names_papers_where_there_are_any(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["systems"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "average        the mean of both bands: a fusion without training" in lines
    assert any(line.startswith("guided ") and line.endswith("Image Processing 2013)") for line in lines)


def test_a_run_folder_tells_its_card(tmp_path: Path) -> None:
    system = csknet()
    system.encoder_origin = "imagenet"
    classes = Classes(names=("road", "car", "person", "sky", "tree"), palette=((0, 0, 0),) * CLASSES)
    training = {
        "data": "scenes",
        "pairs": 5,
        "trained_on": {"visible": None, "infrared": {"types": {"uint8": 5}, "low": 1.0, "high": 255.0}},
        "checkpoint": {"csknet": {"chosen_by": "last epoch", "epoch": 4}},
        "recipes": {"csknet": {"epochs": 4, "optimizer": "sgd", "groups": {}}},
        "augmentation": {"flip": 0.5, "scale": [1.0, 1.0], "corrupted": 0.25},
    }
    save_run(tmp_path, system, make_card(system, classes, "percentile(1, 99)", training))
    text = describe(str(tmp_path), size="32x48")
    for part in (
        "classes: 0 road, 1 car",
        "test_efficientnet, started from imagenet",
        "infrared scaling: percentile(1, 99)",
    ):
        assert part in text
    # In the words of the model card and of an evaluation's page; what only programs read stays in card.json.
    told = text.partition("training (all of it is in card.json):\n")[2].splitlines()
    assert told == [f"  {name}: {words}" for name, words in training_words(training).items()]
    assert told[0] == "  trained on: scenes: 5 pairs"
    assert "{" not in text


def test_a_run_without_an_encoder_tells_what_it_started_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = csknet()
    card = make_card(system, None, "full-range", {"start_from": "runs/first"})
    card.network = {}
    monkeypatch.setattr("crossband.info.load_run", lambda run: (system, card))
    assert "\nstarted from: runs/first\n" in describe(str(tmp_path), size="32x48")


def test_an_encoder_that_a_run_has_not_is_not_told(tmp_path: Path) -> None:
    """CDDFuse without classes is its fusion network alone; its settings name the encoder of the segmenter."""
    system = create("cddfuse", None, variant="light")
    save_run(tmp_path, system, make_card(system, None, "full-range", {"data": "scenes"}))
    text = describe(str(tmp_path), size="32x48")
    assert "classes: none: it only fuses" in text
    assert "encoder" not in text


def test_what_is_neither_a_run_nor_a_system_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="'cskmet' is neither a run folder nor a system"):
        describe("cskmet")
    with pytest.raises(WeightsError, match="did not finish"):
        describe(str(tmp_path))


@pytest.mark.parametrize("size", ["480", "480x", "480x640x3", "0x5", "-3x5", "axb", ""])
def test_sizes_that_are_none_are_refused(size: str) -> None:
    with pytest.raises(OptionError, match="HEIGHTxWIDTH"):
        describe("deeplabv3plus", size=size)
