"""Fusion scores: which pictures are taken, when a score is undefined, conventions, batches and test sets."""

import math
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor

from crossband import metrics
from crossband.errors import OptionError
from crossband.metrics import FusionScores, fusion, fusion_scores, fusion_scores_batch
from crossband.metrics.fusion import CONVENTIONS, METRICS, FusedPair, filters

SIZE = (180, 171)
FUNCTIONS = {metric.name: metric.function for metric in METRICS}
NAMES = list(FUNCTIONS)
QUICK = [name for name in NAMES if name != "FMI"]


def picture(seed: int, channels: int = 1, size: tuple[int, int] = SIZE) -> Tensor:
    """Smooth random colours, uint8 (C, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, channels, 16, 16, generator=generator) * 255
    fine = torch.rand(1, channels, *size, generator=generator) * 20
    smooth = torch.nn.functional.interpolate(coarse, size, mode="bilinear") + fine
    return smooth[0].clamp(0, 255).round().to(torch.uint8)


@pytest.fixture(scope="module")
def trio() -> tuple[Tensor, Tensor, Tensor]:
    """(fused, visible, infrared), uint8 (1, H, W)."""
    visible, infrared = picture(1), picture(2)
    return ((visible.int() + infrared.int()) // 2).to(torch.uint8), visible, infrared


def same(found: dict[str, float], expected: dict[str, float], what: str = "") -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-9, nan_ok=True), (name, what)


def test_forms_of_a_picture_score_alike(trio: tuple[Tensor, Tensor, Tensor]) -> None:
    expected = fusion_scores(*trio, metrics=QUICK)
    arrays = [grey[0].numpy() for grey in trio]
    for form, (pictures, data_range) in {
        "tensor (H, W)": ([grey[0] for grey in trio], None),
        "tensor (1, 1, H, W)": ([grey[None] for grey in trio], None),
        "array": (arrays, None),
        "fortran array": ([np.asfortranarray(array) for array in arrays], None),
        "negative strides": ([np.ascontiguousarray(a[::-1])[::-1] for a in arrays], None),
        "floats": ([array.astype(float) for array in arrays], 255),
        "int64": ([array.astype(int) for array in arrays], 255),
        "uint16": ([257 * array.astype(np.uint16) for array in arrays], 65535),
        "pictures": ([PIL.Image.fromarray(array) for array in arrays], None),
        "fractions": ([array / 255 for array in arrays], 1),
        "grey as colour": ([np.stack([array] * 3, -1) for array in arrays], None),
        "mixed": ([arrays[0] / 255, arrays[1], trio[2]], 1),
    }.items():
        fused, visible, infrared = pictures
        found = fusion_scores(fused, visible, infrared, metrics=QUICK, data_range=data_range)
        same(found, expected, form)


def test_colour_becomes_grey_by_bt601_rounded_half_to_even() -> None:
    colours = np.array([[[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255], [3, 200, 77]]], np.uint8)
    pair = FusedPair(colours)
    assert pair.fused.tolist() == [[[0, 76, 150, 29, 127]]]
    colour = np.mgrid[:64, :64, :64].reshape(3, -1)
    ties = colour.T[np.array([299, 587, 114]) @ colour % 1000 == 500]
    assert len(ties) > 100
    grey = FusedPair(ties[None].astype(np.uint8)).fused
    assert (grey % 2 == 0).all()
    floats = FusedPair(colours / 255.0, data_range=1)
    assert float(floats.fused[0, 0, 4]) == pytest.approx(0.299 * 3 + 0.587 * 200 + 0.114 * 77)
    rounded = FusedPair(torch.from_numpy(colours / 255.0).movedim(-1, 0), data_range=1, eight_bit=True)
    assert rounded.fused.tolist() == pair.fused.tolist()


def test_eight_bit_scores_what_a_png_holds(trio: tuple[Tensor, Tensor, Tensor]) -> None:
    fused = trio[0] / 255 + 0.3 / 255
    found = fusion_scores(fused, *trio[1:], metrics=QUICK, data_range=1, eight_bit=True)
    same(found, fusion_scores(*trio, metrics=QUICK))
    exact = fusion_scores(fused, *trio[1:], metrics=QUICK, data_range=1)
    # Levels are rounded in any case, all else is not.
    assert exact["EN"] == found["EN"]
    assert exact["MSE"] != pytest.approx(found["MSE"], rel=1e-6)


def test_stretch_acts_on_the_fused_picture_alone(trio: tuple[Tensor, Tensor, Tensor]) -> None:
    fused, visible, infrared = (grey[0].numpy() for grey in trio)
    dim = (fused // 4 + 20).astype(np.uint8)
    low, high = int(dim.min()), int(dim.max())
    expected = np.rint((dim.astype(float) - low) / (high - low) * 255).astype(np.uint8)
    same(
        fusion_scores(dim, visible, infrared, metrics=QUICK, stretch=True),
        fusion_scores(expected, visible, infrared, metrics=QUICK),
    )
    flat = np.full_like(dim, 7)
    assert FusedPair(flat, stretch=True).fused.unique().tolist() == [7]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f, v, i: (f / 255, v, i), "say what its values lie in"),
        (lambda f, v, i: (f, v[:, :-1], i), "visible image and the fused picture differ"),
        (
            lambda f, v, i: (f, v, torch.cat([i, i, i])[None].repeat(2, 1, 1, 1)),
            "infrared image and the fused",
        ),
        (lambda f, v, i: (f.repeat(2, 1, 1), v, i), r"fused picture has the shape \(2, 180, 171\)"),
        (lambda f, v, i: (f.numpy(), v, i), r"fused picture has the shape \(1, 180, 171\): arrays"),
        (lambda f, v, i: (f[None, None], v, i), "fused picture has the shape"),
        (lambda f, v, i: (f[:, :0], v, i), "fused picture has the shape"),
        (lambda f, v, i: (f, None, i), "the visible source is missing"),
        (lambda f, v, i: (f, v, None), "the infrared source is missing"),
        (lambda f, v, i: (f, None, None), "give visible and infrared"),
    ],
)
def test_refused_pictures(
    trio: tuple[Tensor, Tensor, Tensor], change: Callable[..., tuple[Tensor, ...]], message: str
) -> None:
    with pytest.raises(OptionError, match=message) as error:
        fusion_scores(*change(*trio))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("values", "data_range", "message"),
    [
        ([0.0, 1.2], 1, "values in 0..1.2, outside of 0..1"),
        ([-0.1, 0.5], 1, "values in -0.1..0.5, outside of 0..1"),
        ([0.0, 300.0], 255, "outside of 0..255"),
        ([0.0, math.nan], 1, "outside of 0..1"),
        ([0.0, math.inf], 255, "outside of 0..255"),
        ([0.0, 0.7], 255, "give data_range=1"),
        ([0.0, 0.7], 0, "must be positive"),
        ([0.0, 0.7], math.nan, "must be positive"),
    ],
)
def test_values_outside_of_the_declared_range_are_refused(
    values: list[float], data_range: float, message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        FusedPair(torch.tensor([values]), data_range=data_range)


def test_an_almost_black_picture_on_255_is_taken() -> None:
    assert FusedPair(torch.tensor([[0.0, 1.0]]), data_range=255).fused.tolist() == [[[0, 1]]]


def test_names_that_do_not_exist_are_refused(trio: tuple[Tensor, Tensor, Tensor]) -> None:
    for arguments, message in (
        ({"convention": "matlab"}, "unknown convention 'matlab': use one of standard, cddfuse"),
        ({"metrics": ["EN", "Nabf"]}, "has no metrics 'Nabf'"),
        ({"convention": "cddfuse", "metrics": ["FMI"]}, "convention cddfuse has no metrics 'FMI'"),
        ({"metrics": []}, "name some of"),
        ({"metrics": "EN"}, "names in a list"),
        ({"precision": "half"}, "unknown precision 'half'"),
    ):
        with pytest.raises(OptionError, match=message):
            fusion_scores(*trio, **arguments)  # type: ignore[arg-type]
    pair = FusedPair(*trio)
    for call in (
        lambda: fusion.structural_similarity(pair, reduction="max"),
        lambda: fusion.structural_similarity(pair, window="box"),
        lambda: fusion.structural_similarity(pair, border="zero"),
        lambda: fusion.gradient_preservation(pair, border="crop"),
        lambda: fusion.mutual_information(pair, log_base=1),
        lambda: fusion.spatial_frequency(pair, over="rows"),
        lambda: fusion.average_gradient(pair, over="rows"),
        lambda: fusion.peak_signal_to_noise_ratio(pair, peak="visible"),
        lambda: fusion.peak_signal_to_noise_ratio(pair, error="rmse"),
        lambda: fusion.feature_mutual_information(pair, feature="edge"),
        lambda: fusion.entropy(pair, data_range=1),
    ):
        with pytest.raises(OptionError):
            call()


UNDEFINED = {
    # (fused, visible, infrared), of which "flat" is one value everywhere
    "flat visible": {"SCD", "CC", "VIF", "Qcb", "Qcv"},
    "flat infrared": {"SCD", "CC", "VIF", "Qcb", "Qcv"},
    "flat fused": {"CC", "Qcb", "Qcv"},
    "flat sources": {"SCD", "CC", "VIF", "VIFF", "Qabf", "Qcb", "Qcv"},
    "all flat": {"NMI", "SCD", "CC", "VIF", "VIFF", "Qabf", "Qcb", "Qcv"},
    "fused is visible": {"SCD"},
    "fused is infrared and more": {"SCD"},
    "fused and visible flat": {"NMI", "SCD", "CC", "VIF", "Qcb", "Qcv"},
}


@pytest.mark.parametrize("case", UNDEFINED)
@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_undefined_is_nan_and_nothing_else_is(
    case: str, scale: float, trio: tuple[Tensor, Tensor, Tensor]
) -> None:
    fused, visible, infrared = (0.1 + 0.8 * (grey.double() / 255) for grey in trio)
    flat = torch.full_like(fused, 0.3)
    pictures = {
        "flat visible": (fused, flat, infrared),
        "flat infrared": (fused, visible, flat),
        "flat fused": (flat, visible, infrared),
        "flat sources": (fused, flat, flat + 0.1),
        "all flat": (flat, flat, flat),
        "fused is visible": (visible, visible, infrared),
        "fused is infrared and more": (infrared + 0.0625, visible, infrared),
        "fused and visible flat": (flat, flat + 0.1, infrared),
    }[case]
    found = fusion_scores(*(p * scale for p in pictures), metrics=QUICK, data_range=scale)
    assert {name for name, value in found.items() if math.isnan(value)} == UNDEFINED[case]


def test_small_pictures_are_undefined_where_windows_do_not_fit() -> None:
    smallest = {"VIF": 41, "VIFF": 41, "SSIM": 11, "MS-SSIM": 161, "FMI": 3, "SF": 2, "AG": 2}
    for name, side in smallest.items():
        for wide in (False, True):
            for size, defined in ((side, True), (side - 1, False)):
                shape = (size, 170) if wide else (170, size)
                pair = FusedPair(*(picture(seed, size=shape) for seed in (3, 4, 5)))
                assert math.isnan(float(FUNCTIONS[name](pair))) != defined, (name, shape)


def test_equal_pictures_have_no_error_and_infinite_psnr(trio: tuple[Tensor, Tensor, Tensor]) -> None:
    fused = trio[0]
    found = fusion_scores(fused, fused, fused, metrics=QUICK)
    assert found["PSNR"] == math.inf
    ideal = {"MSE": 0, "NMI": 2, "CC": 1, "VIF": 2, "VIFF": 1, "SSIM": 2, "MS-SSIM": 2, "Qcb": 1, "Qcv": 0}
    for name, value in ideal.items():
        assert found[name] == pytest.approx(value, abs=1e-8), name
    assert math.isnan(float(fusion.peak_signal_to_noise_ratio(fused * 0, fused, fused, peak="fused")))


def test_a_batch_scores_as_its_pictures_do() -> None:
    batch = [torch.stack([picture(10 * k + n, 3) for n in range(3)]) for k in range(3)]
    for convention in CONVENTIONS:
        found = fusion_scores_batch(*batch, convention)
        for n in range(3):
            alone = fusion_scores(*(pictures[n] for pictures in batch), convention)
            same({name: float(values[n]) for name, values in found.items()}, alone)
        assert all(values.shape == (3,) for values in found.values())
    with pytest.raises(OptionError, match="use fusion_scores_batch"):
        fusion_scores(*batch)


def test_sharing_does_not_change_a_score(trio: tuple[Tensor, Tensor, Tensor]) -> None:
    """Statistics that several metrics use must survive each of them."""
    pair = FusedPair(*trio)
    for names in (NAMES, NAMES[::-1]):
        for convention in CONVENTIONS:
            for name in names:
                if name in CONVENTIONS[convention].metrics:
                    shared = float(FUNCTIONS[name](pair, **CONVENTIONS[convention].metrics[name]))
                    alone = fusion_scores(*trio, convention, metrics=[name])[name]
                    assert shared == alone, (convention, name)


def test_the_windows_of_a_gpu_give_the_same_scores(
    trio: tuple[Tensor, Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = fusion_scores(*trio, metrics=QUICK)
    monkeypatch.setattr(filters, "by_opencv", filters.by_shifts)
    same(fusion_scores(*trio, metrics=QUICK), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_gpu_gives_the_same_scores(trio: tuple[Tensor, Tensor, Tensor], convention: str) -> None:
    same(fusion_scores(*trio, convention, device="cuda"), fusion_scores(*trio, convention))
    single = fusion_scores(*trio, convention, device="cuda", precision="float32")
    for name, value in fusion_scores(*trio, convention, precision="float32").items():
        assert single[name] == pytest.approx(value, rel=2e-4), name


def test_inputs_are_not_changed(trio: tuple[Tensor, Tensor, Tensor]) -> None:
    floats = [grey.double() for grey in trio]
    copies = [grey.clone() for grey in floats]
    fusion_scores(*floats, data_range=255)
    assert all(torch.equal(a, b) for a, b in zip(floats, copies, strict=True))


def test_conventions_differ_as_they_say(trio: tuple[Tensor, Tensor, Tensor]) -> None:
    found = {convention: fusion_scores(*trio, convention, metrics=None) for convention in CONVENTIONS}
    standard = found["standard"]
    height, width = SIZE
    inner = height * width / ((height - 1) * (width - 1))
    expected = {
        ("cddfuse", "MI"): standard["MI"] * math.log(2),
        ("vifb", "MI"): standard["MI"] * math.log(2),
        ("linfeng2023", "AG"): standard["AG"] * inner,
        ("linfeng2022", "AG"): standard["AG"] * inner,
        ("vifb", "AG"): standard["AG"] * inner,
        ("linfeng2023", "MSE"): standard["MSE"] / 255**2,
        ("linfeng2022", "MSE"): standard["MSE"] / 255**2,
        ("linfeng2023", "PSNR"): standard["PSNR"] + 48.1308036086791,
        ("linfeng2022", "PSNR"): standard["PSNR"] + 48.1308036086791,
        ("linfeng2022", "SF"): standard["SF"] / 255,
        ("cddfuse", "PSNR"): standard["PSNR"] + 20 * math.log10(int(trio[0].max()) / 255),
    }
    for (convention, name), value in expected.items():
        assert found[convention][name] == pytest.approx(value, rel=1e-12), (convention, name)
    other = {(convention, name) for convention in CONVENTIONS for name in found[convention]} - set(expected)
    changed = {
        (convention, name)
        for convention, name in other
        if found[convention][name] != pytest.approx(standard[name])
    }
    assert changed == {
        ("cddfuse", "SSIM"),
        ("linfeng2022", "MI"),
        ("linfeng2023", "MI"),
        ("linfeng2022", "SD"),
        ("linfeng2022", "VIF"),
        ("linfeng2022", "Qabf"),
        ("linfeng2023", "SSIM"),
        ("vifb", "SF"),
        ("vifb", "PSNR"),
    }
    assert list(standard) == NAMES
    assert CONVENTIONS["cddfuse"].unit(METRICS[4]) == "nats"
    assert {metric.name for metric in METRICS if metric.better == "lower"} == {"MSE", "Qcv"}


def test_a_test_set(trio: tuple[Tensor, Tensor, Tensor]) -> None:
    flat = torch.full_like(trio[0], 9)
    gathered = FusionScores(metrics=["VIF", "SD"])
    gathered.update(*trio)
    gathered.update(
        *(torch.stack([grey, other]) for grey, other in zip(trio, (trio[0], flat, flat), strict=True))
    )
    assert len(gathered) == 3
    first = fusion_scores(*trio, metrics=["SD", "VIF"])
    assert list(gathered.values) == ["SD", "VIF"]
    assert gathered.values["SD"] == pytest.approx([first["SD"]] * 3)
    result = gathered.compute()
    assert result["VIF"] == pytest.approx((first["VIF"], 0, 2, 1))
    other = FusionScores(metrics=["VIF", "SD"])
    other.update(trio[1], *trio[1:])
    gathered.merge(other)
    values = gathered.values["SD"]
    assert len(values) == 4
    assert gathered.compute()["SD"][:3] == pytest.approx((np.mean(values), np.std(values, ddof=1), 4))
    with pytest.raises(OptionError, match="do not mix"):
        gathered.merge(FusionScores("cddfuse", metrics=["VIF", "SD"]))
    gathered.reset()
    assert len(gathered) == 0
    assert math.isnan(gathered.compute()["SD"].mean)


def test_metrics_need_no_gradient(trio: tuple[Tensor, Tensor, Tensor]) -> None:
    fused = (trio[0] / 255).requires_grad_()
    found = fusion_scores(fused, *trio[1:], data_range=1, metrics=["SSIM", "VIF"])
    assert all(map(math.isfinite, found.values()))


def test_the_old_spellings_go_on_and_warn(trio: tuple[Tensor, Tensor, Tensor]) -> None:
    new = fusion_scores(*trio, convention="cddfuse", metrics=["MI"])
    with pytest.warns(DeprecationWarning, match=r"preset=\.\.\.\) is deprecated: use convention="):
        assert fusion_scores(*trio, preset="cddfuse", metrics=["MI"]) == new  # type: ignore[call-arg]
    with pytest.warns(DeprecationWarning, match="use convention="):
        assert FusionScores(preset="vifb").convention.name == "vifb"  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="give one of them"):
        fusion_scores(*trio, preset="vifb", convention="vifb")  # type: ignore[call-arg]
    with pytest.warns(DeprecationWarning, match="PRESETS is deprecated: use CONVENTIONS"):
        assert fusion.PRESETS is CONVENTIONS


def test_names_load_when_used() -> None:
    assert all(hasattr(fusion, name) for name in fusion.__all__)
    assert all(hasattr(metrics, name) for name in metrics.__all__)
    code = (
        "import sys, crossband.metrics as m; m.fusion.CONVENTIONS; m.PROTOCOLS; "
        "assert not {'torch', 'cv2', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
