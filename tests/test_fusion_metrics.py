"""Fusion metrics: against golden values, naive formulas, libraries, and numbers worked by hand."""

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.fft import dctn
from skimage.measure import shannon_entropy
from skimage.metrics import structural_similarity as skimage_ssim
from torchmetrics.functional.image import peak_signal_noise_ratio
from torchmetrics.functional.image import visual_information_fidelity as torchmetrics_vif

from crossband.metrics import fusion, fusion_scores
from crossband.metrics.fusion import METRICS, filters
from crossband.metrics.fusion.images import FusedPair

FUNCTIONS = {metric.name: metric.function for metric in METRICS}

Pictures = tuple[np.ndarray, np.ndarray, np.ndarray]

CDDFUSE_COLUMNS = ["EN", "SD", "SF", "AG", "MI", "MSE", "CC", "PSNR", "SCD", "VIF", "Qabf", "SSIM"]
CDDFUSE = {
    # The authors' evaluation code on the pictures of `synthetic`, in float64.
    "synth1/mean": "7.106839 34.900620 13.731367 5.307103 1.785820 1308.092214"
    " 0.676315 14.722941 1.387305 0.530003 0.388472 0.901644",
    "synth1/max": "7.301323 39.730976 19.365908 6.620177 4.899310 2615.935537"
    " 0.610019 12.268116 1.276652 0.812030 0.538535 0.985616",
    "synth1/ir": "7.056130 60.650082 6.631067 2.357882 5.278498 2615.935537"
    " 0.488711 12.268116 nan 1.015599 0.177635 0.996473",
    "synth2/mean": "6.380242 62.866946 27.448498 5.105753 3.502139 4820.201589"
    " 0.667742 11.300152 1.463330 0.881602 0.472599 0.931933",
    "synth2/max": "4.941506 68.618956 31.373119 5.000707 3.716603 9640.156889"
    " 0.584241 8.289963 1.272437 0.831153 0.500837 1.062558",
    "synth2/ir": "5.533736 78.862921 33.920826 4.791925 4.609148 9640.156889"
    " 0.456598 8.289963 nan 1.031383 0.438591 1.139116",
}
STANDARD_COLUMNS = ["MI", "NMI", "PSNR", "SSIM", "uniform", "MS-SSIM", "Qcb", "Qcv", "VIFF"]
STANDARD = {
    # Each column equals at least one public implementation, run elsewhere.
    "synth1/mean": "2.576393 0.361972 16.964420 1.219023 1.174147 1.281955 0.469918 245.531482 0.343346",
    "synth1/max": "7.068210 0.979544 13.954533 1.152152 1.120042 1.110596 0.374780 41.305952 0.181464",
    "synth1/ir": "7.615263 1.078467 13.954533 1.142451 1.110010 1.000000 0.402367 1119.298414 0.047584",
    "synth2/mean": "5.052519 0.863875 11.300152 1.124844 1.139444 1.148962 0.340972 1591.532382 0.416203",
    "synth2/max": "5.361925 1.049582 8.289963 1.143931 1.170290 1.083455 0.270528 1923.475681 0.344707",
    "synth2/ir": "6.649595 1.210338 8.289963 1.234390 1.235518 1.000000 0.553933 4834.367228 0.135989",
}
CASES = list(CDDFUSE)


def load_naive() -> ModuleType:
    path = Path(__file__).resolve().parent / "references" / "naive_fusion_metrics.py"
    spec = importlib.util.spec_from_file_location("naive_fusion_metrics", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


naive = load_naive()


def triangle(t: np.ndarray, period: int) -> np.ndarray:
    return np.abs(t % (2 * period) - period)


def synthetic(case: str) -> Pictures:
    """(fused, visible, infrared), uint8; the second pair has an odd size, and saturated and flat areas."""
    which, rule = case.split("/")
    if which == "synth1":
        y, x = np.mgrid[:192, :256]
        visible = 3 * triangle(x, 32) + 2 * triangle(y, 24) + ((x * x + 3 * y * y) // 64) % 64
        blob = np.clip(200 - ((x - 160) ** 2 + (y - 90) ** 2) // 64, 20, 255)
        infrared = blob + (73 * x + 151 * y + 7 * x * y) % 11
    else:
        y, x = np.mgrid[:201, :259]
        visible = np.where(x < 130, 255 * ((x // 37 + y // 29) % 2), 2 * (x - 130) + y // 4)
        disc = (x - 215) ** 2 + (y - 100) ** 2 < 1600
        right = np.where(disc, 255, ((x * y) // 97) % 32)
        infrared = np.where(x < 86, 128, np.where(x < 172, (5 * x + 3 * y) % 256, right))
    visible, infrared = np.clip(visible, 0, 255), np.clip(infrared, 0, 255)
    fused = {"mean": (visible + infrared + 1) // 2, "max": np.maximum(visible, infrared), "ir": infrared}[
        rule
    ]
    return tuple(picture.astype(np.uint8) for picture in (fused, visible, infrared))  # type: ignore[return-value]


def numbers(text: str) -> list[float]:
    return [float(word) for word in text.split()]


def standard(pair: FusedPair) -> list[float]:
    extra = {"uniform": float(fusion.structural_similarity(pair, window="uniform"))}
    return [extra[name] if name in extra else float(FUNCTIONS[name](pair)) for name in STANDARD_COLUMNS]


@pytest.mark.parametrize("case", CASES)
def test_golden_values(case: str) -> None:
    pictures = synthetic(case)
    found = fusion_scores(*pictures, "cddfuse")
    # The values are printed to 6 decimals; VIF varies by 7e-9 between implementations, in flat windows.
    assert_allclose([found[name] for name in CDDFUSE_COLUMNS], numbers(CDDFUSE[case]), rtol=0, atol=5.2e-7)
    assert_allclose(standard(FusedPair(*pictures)), numbers(STANDARD[case]), rtol=0, atol=5.2e-7)


@pytest.mark.parametrize("case", CASES)
def test_float32_stays_close(case: str) -> None:
    pictures = synthetic(case)
    exact, quick = (
        fusion_scores(*pictures, metrics=[m for m in FUNCTIONS if m != "FMI"], precision=precision)
        for precision in ("float64", "float32")
    )
    for name, value in exact.items():
        tolerance = {"VIF": {"abs": 2e-4, "rel": 0}, "Qcb": {"rel": 1e-4}}.get(name, {"rel": 1e-5})
        assert quick[name] == pytest.approx(value, nan_ok=True, **tolerance), name
    assert (quick["EN"], quick["MI"], quick["NMI"]) == (exact["EN"], exact["MI"], exact["NMI"])


NAIVE = {
    "EN": lambda f, v, i: naive.entropy(f),
    "SD": lambda f, v, i: naive.standard_deviation(f),
    "SF": lambda f, v, i: naive.spatial_frequency(f),
    "AG": lambda f, v, i: naive.average_gradient(f),
    "MI": lambda f, v, i: naive.mutual_information(f, v, i) / math.log(2),
    "NMI": naive.normalised_mutual_information,
    "SCD": naive.sum_of_correlations_of_differences,
    "CC": naive.correlation_coefficient,
    "MSE": naive.mean_squared_error,
    "PSNR": naive.peak_signal_to_noise_ratio,
    "VIF": naive.visual_information_fidelity,
    "VIFF": naive.visual_information_fidelity_for_fusion,
    "Qabf": naive.gradient_preservation,
    "Qcb": naive.chen_blum_quality,
    "Qcv": naive.chen_varshney_quality,
    "SSIM": naive.structural_similarity,
    "MS-SSIM": naive.multi_scale_structural_similarity,
}


@pytest.mark.parametrize("case", ["synth1/mean", "synth2/max", "synth2/mean"])
@pytest.mark.parametrize("name", NAIVE)
def test_equals_the_naive_formula(name: str, case: str) -> None:
    pictures = synthetic(case)
    found = float(FUNCTIONS[name](FusedPair(*pictures)))
    expected = NAIVE[name](*(picture.astype(float) for picture in pictures))
    assert found == pytest.approx(expected, rel=2e-8 if name in ("VIF", "VIFF") else 1e-9)


@pytest.mark.parametrize("case", CASES)
def test_fmi_equals_the_naive_formula(case: str) -> None:
    fused, visible, infrared = (picture[60:90, 70:110] for picture in synthetic(case))
    found = fusion.feature_mutual_information(fused, visible, infrared)
    expected = naive.feature_mutual_information(*(p.astype(float) for p in (fused, visible, infrared)))
    assert float(found) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("levels", "weights"),
    [(256, None), (3, None), (2, (0.9, 0.1)), (256, (0.8, *[0.2 / 255] * 255)), (1, None)],
    ids=["noise", "ties", "lone pixels", "mostly black", "flat"],
)
def test_fmi_of_whole_levels_is_that_of_their_halves(levels: int, weights: tuple[float, ...] | None) -> None:
    # Windows are stretched, so half the contrast gives the same value; not whole, it is another way there.
    rng = np.random.default_rng(0)
    pictures = [rng.choice(levels, (60, 50), p=weights).astype(np.uint8) for _ in range(3)]
    pictures[0][20:40] = pictures[1][20:40]
    whole = fusion.feature_mutual_information(*pictures, reduction="none")
    halves = (picture.astype(float) / 2 + 1.25 for picture in pictures)
    expected = fusion.feature_mutual_information(*halves, data_range=255, reduction="none")
    assert_allclose(whole, expected, rtol=1e-12)


def test_features_of_fmi() -> None:
    fused, visible, infrared = (picture[60:91, 70:110].astype(float) for picture in synthetic("synth1/mean"))
    options = {"data_range": 255, "reduction": "none"}
    for feature, compute in {
        "gradient": lambda a: np.gradient(a, axis=1),
        "dct": lambda a: dctn(a, norm="ortho"),
    }.items():
        found = fusion.feature_mutual_information(fused, visible, infrared, feature=feature, **options)
        f, v, i = (compute(a) for a in (fused, visible, infrared))
        assert naive.feature_mutual_information(f, v, i) == pytest.approx(float(found.mean()), rel=1e-7)


def test_fmi_of_a_window_by_hand() -> None:
    # Both windows hold two equal masses, of neighbours in the one, of the first and the last in the other:
    # r = (1/4 - 1/9) / (1/2 - 1/9) = 5/14. Their upper bound puts 1/2 on (1, 1) and 1/2 on (2, 9), so its
    # correlation is 1 and p = 5/14. The mixture: (1 + p) / 4 twice and (1 - p) / 4 twice.
    # A picture of 3 x 3 is one window, which is read down its columns.
    first = torch.tensor([1.0, 1, 0, 0, 0, 0, 0, 0, 0]).reshape(3, 3).T
    second = torch.tensor([1.0, 0, 0, 0, 0, 0, 0, 0, 1]).reshape(3, 3).T
    shares = np.array([19, 19, 9, 9]) / 56
    information = 2 * math.log(2) + np.sum(shares * np.log(shares))
    found = fusion.feature_mutual_information(second, first, second, data_range=1, reduction="none")
    assert_allclose(found, [information / math.log(2), 1], rtol=1e-12)


@pytest.mark.parametrize("case", ["synth1/max", "synth2/mean"])
def test_ssim_equals_scikit_image(case: str) -> None:
    fused, visible, infrared = synthetic(case)
    for options, theirs in (
        ({}, {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}),
        ({"window": "uniform"}, {"data_range": 255}),
        ({"window": "uniform", "dynamic_range": 2}, {"data_range": 2}),
    ):
        found = fusion.structural_similarity(fused, visible, infrared, reduction="none", **options)
        expected = [skimage_ssim(s.astype(float), fused.astype(float), **theirs) for s in (visible, infrared)]
        assert_allclose(found, expected, rtol=1e-9)


def test_ssim_with_replicated_borders_is_that_of_the_padded_pictures() -> None:
    pictures = synthetic("synth2/mean")
    found = fusion.structural_similarity(*pictures, border="replicate")
    expected = fusion.structural_similarity(*(np.pad(p, 5, mode="edge") for p in pictures))
    assert float(found) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("case", ["synth1/max", "synth2/mean"])
def test_vif_psnr_and_entropy_agree_with_libraries(case: str) -> None:
    fused, visible, infrared = synthetic(case)
    f, v, i = (torch.from_numpy(p).double()[None, None] for p in (fused, visible, infrared))
    expected = [float(torchmetrics_vif(f, source)) for source in (v, i)]
    found = fusion.visual_information_fidelity(fused, visible, infrared, reduction="none")
    assert_allclose(found, expected, rtol=2e-8)
    expected = [float(peak_signal_noise_ratio(f, source, data_range=255.0)) for source in (v, i)]
    found = fusion.peak_signal_to_noise_ratio(fused, visible, infrared, reduction="none")
    assert_allclose(found, expected, rtol=1e-6)
    assert float(fusion.entropy(fused)) == pytest.approx(shannon_entropy(fused, base=2), rel=1e-12)


def test_by_hand() -> None:
    visible = np.array([[0, 2], [4, 10]], np.uint8)
    infrared = np.array([[2, 0], [2, 8]], np.uint8)
    fused = np.array([[1, 1], [3, 9]], np.uint8)
    pair = FusedPair(fused, visible, infrared)
    # Differences: rows 0 and 6, columns 2 and 8; (0 + 36) / 2 + (4 + 64) / 2 = 52, over 4 pixels 26.
    assert float(fusion.spatial_frequency(pair)) == pytest.approx(math.sqrt(52))
    assert float(fusion.spatial_frequency(pair, over="pixels", peak=1)) == pytest.approx(math.sqrt(26) / 255)
    gradients = [math.sqrt(squares / 2) for squares in (0 + 4, 0 + 64, 36 + 4, 36 + 64)]
    assert float(fusion.average_gradient(pair)) == pytest.approx(sum(gradients) / 4)
    assert float(fusion.average_gradient(pair, over="inner")) == pytest.approx(sum(gradients))
    assert float(fusion.entropy(pair)) == pytest.approx(1.5)
    # The levels of fused and visible are paired one to one but for the 1: H(F) = I = 1.5 bits.
    assert fusion.mutual_information(pair, reduction="none")[0] == pytest.approx(1.5)
    assert fusion.mutual_information(pair, log_base=math.e)[()] == pytest.approx(math.log(2) * (1.5 + 1.0))
    # 2 * 1.5 / (2 + 1.5) and 2 * 1 / (1.5 + 1.5)
    assert_allclose(fusion.normalised_mutual_information(pair, reduction="none"), [6 / 7, 2 / 3])
    assert_allclose(fusion.mean_squared_error(pair, reduction="none"), [1, 1])
    assert float(fusion.peak_signal_to_noise_ratio(pair)) == pytest.approx(20 * math.log10(255))
    assert float(fusion.peak_signal_to_noise_ratio(pair, peak="fused")) == pytest.approx(20 * math.log10(9))
    # sqrt(sum d^2) / (H W) = 2 / 4 for both sources
    pseudo = fusion.peak_signal_to_noise_ratio(pair, error="root-over-pixels")
    assert float(pseudo) == pytest.approx(10 * math.log10(255**2 / 0.5))
    # 8-bit arithmetic: mean 3.5; above it 0, 0, 0 and 5.5, rounded to 6.
    assert float(fusion.standard_deviation(pair, saturating=True)) == pytest.approx(3)
    wide = np.array([[0, 0], [100, 200]], np.uint8)
    # mean 75: 25^2 and 125^2 both count as 255.
    assert float(fusion.standard_deviation(wide, saturating=True)) == pytest.approx(math.sqrt(510 / 4))


def test_merged_top_levels_by_hand() -> None:
    fused = np.array([[254, 255, 0, 0]], np.uint8)
    # H(F) = H(S) = 1.5 bits; the joint histogram has two cells of a half: 1 bit.
    found = fusion.mutual_information(fused, fused, fused, merge_top_levels=True, reduction="none")
    assert_allclose(found, [2, 2])
    assert_allclose(fusion.mutual_information(fused, fused, fused, reduction="none"), [1.5, 1.5])


def test_saturating_vif_cuts_the_products_of_the_first_scale() -> None:
    fused, visible, infrared = (picture.astype(float) for picture in synthetic("synth1/mean"))
    window = naive.gaussian(17, 17 / 5)

    def saturated(s: np.ndarray, f: np.ndarray) -> float:
        mean_s, mean_f = naive.windows(s, window), naive.windows(f, window)
        cut = [naive.windows(np.minimum(a * b, 255), window) for a, b in ((s, s), (f, f), (s, f))]
        var_s, var_f = np.maximum(cut[0] - mean_s**2, 0), np.maximum(cut[1] - mean_f**2, 0)
        gain = np.where((var_s >= 1e-10) & (var_f >= 1e-10), (cut[2] - mean_s * mean_f) / (var_s + 1e-10), 0)
        gain = np.maximum(gain, 0)
        rest = np.maximum(var_f - gain * (cut[2] - mean_s * mean_f), 1e-10)
        scales = [(np.where(var_s < 1e-10, 0, var_s), gain, rest), *naive.vif_scales(s, f)[1:]]
        kept = sum(np.sum(np.log1p(g**2 * var / (r + 2))) for var, g, r in scales)
        return kept / sum(np.sum(np.log1p(var / 2)) for var, _, _ in scales)

    found = fusion.visual_information_fidelity(
        fused, visible, infrared, data_range=255, saturating=True, reduction="none"
    )
    assert_allclose(found, [saturated(visible, fused), saturated(infrared, fused)], rtol=2e-8)


def test_qabf_options() -> None:
    pictures = synthetic("synth2/mean")
    wide = [np.pad(p.astype(float), 1, mode="edge") for p in pictures]
    # Replicated borders: the gradients of the padded pictures, less their outermost pixels.
    strengths, angles = zip(*(naive.edges(p) for p in wide), strict=True)
    g_f, a_f = strengths[0][1:-1, 1:-1], angles[0][1:-1, 1:-1]
    for wrap in (False, True):
        kept = total = 0.0
        for g_s, a_s in zip(strengths[1:], angles[1:], strict=True):
            g_s, a_s = g_s[1:-1, 1:-1], a_s[1:-1, 1:-1]
            with np.errstate(invalid="ignore"):
                ratio = np.where(g_s == g_f, g_f, np.minimum(g_s, g_f) / np.maximum(g_s, g_f))
            turn = np.abs(a_s - a_f)
            turn = np.minimum(turn, np.pi - turn) if wrap else turn
            likeness = 1 - turn / (np.pi / 2)
            quality = (
                0.9994 / (1 + np.exp(-15 * (ratio - 0.5))) * 0.9879 / (1 + np.exp(-22 * (likeness - 0.8)))
            )
            kept, total = kept + np.sum(quality * g_s), total + np.sum(g_s)
        found = fusion.gradient_preservation(*pictures, border="replicate", wrap_angles=wrap)
        assert float(found) == pytest.approx(kept / total, rel=1e-9)


@pytest.mark.parametrize("size", [3, 17, 31])
def test_windows_of_both_devices_are_those_of_scipy(size: int) -> None:
    maps = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 40, 37)))
    weights = filters.gaussian_window(size, size / 5)
    expected = np.stack([naive.windows(m, np.outer(weights, weights)) for m in maps.flatten(0, 1).numpy()])
    for windows in (filters.weighted_windows, lambda m, w: filters.by_shifts(m, w, w)):
        assert_allclose(windows(maps, weights).flatten(0, 1), expected, atol=1e-13)


def test_per_source_values_make_up_the_score() -> None:
    pair = FusedPair(*synthetic("synth2/mean"))
    for name in ("MI", "NMI", "SCD", "CC", "MSE", "VIF", "Qabf", "Qcv", "SSIM", "MS-SSIM", "FMI"):
        function = FUNCTIONS[name]
        parts = function(pair, reduction="none")
        assert parts.shape == (2,)
        assert parts.dtype == torch.float64
        assert float(function(pair, reduction="sum")) == pytest.approx(float(parts.sum()))
        assert float(function(pair, reduction="mean")) == pytest.approx(float(parts.mean()))
    # visible first: fused is the infrared image, so its own value is known.
    same = FusedPair(*synthetic("synth2/ir"))
    assert float(fusion.correlation_coefficient(same, reduction="none")[1]) == pytest.approx(1)
    assert float(fusion.structural_similarity(same, reduction="none")[1]) == pytest.approx(1)
    assert float(fusion.visual_information_fidelity(same, reduction="none")[1]) == pytest.approx(1)
    assert float(fusion.feature_mutual_information(same, reduction="none")[1]) == 1
    assert fusion.mean_squared_error(same, reduction="none")[1] == 0
    # r(visible, fused - infrared) has nothing to correlate with.
    found = fusion.sum_of_correlations_of_differences(same, reduction="none")
    assert found.isnan().tolist() == [True, False]
