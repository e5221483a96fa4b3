"""Fusion metrics as their formulas read: the reference of the tests and of fusion_metrics_speed.py.

NumPy, SciPy, scikit-learn and scikit-image in float64; one metric at a time, one source at a time, nothing
shared, and nothing made fast or slow on purpose. Libraries are those of the published code where it is in
Python: scipy.signal.convolve2d for windows and gradients, scikit-learn for MI, scikit-image for SSIM.
Pictures are float arrays (H, W) with integers in 0..255.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import signal
from skimage import metrics
from sklearn.metrics import mutual_info_score, normalized_mutual_info_score

Picture = np.ndarray


def over_sources(score: Callable[..., float], f: Picture, v: Picture, i: Picture, **options: object) -> float:
    return score(v, f, **options) + score(i, f, **options)


def entropy(f: Picture) -> float:
    p = np.bincount(f.astype(int).ravel(), minlength=256) / f.size
    return float(-np.sum(p[p > 0] * np.log2(p[p > 0])))


def standard_deviation(f: Picture) -> float:
    return float(np.sqrt(np.mean((f - f.mean()) ** 2)))


def spatial_frequency(f: Picture) -> float:
    return float(np.sqrt(np.mean(np.diff(f, axis=0) ** 2) + np.mean(np.diff(f, axis=1) ** 2)))


def average_gradient(f: Picture) -> float:
    down, right = np.gradient(f)
    return float(np.mean(np.sqrt((down**2 + right**2) / 2)))


def mutual_information(f: Picture, v: Picture, i: Picture) -> float:
    """In nats."""
    return over_sources(lambda s, f: mutual_info_score(s.ravel().astype(int), f.ravel().astype(int)), f, v, i)


def normalised_mutual_information(f: Picture, v: Picture, i: Picture) -> float:
    return over_sources(
        lambda s, f: normalized_mutual_info_score(s.ravel().astype(int), f.ravel().astype(int)), f, v, i
    )


def correlation(a: Picture, b: Picture) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def sum_of_correlations_of_differences(f: Picture, v: Picture, i: Picture) -> float:
    return correlation(v, f - i) + correlation(i, f - v)


def correlation_coefficient(f: Picture, v: Picture, i: Picture) -> float:
    return over_sources(correlation, f, v, i) / 2


def mean_squared_error(f: Picture, v: Picture, i: Picture) -> float:
    return over_sources(lambda s, f: float(np.mean((s - f) ** 2)), f, v, i) / 2


def peak_signal_to_noise_ratio(f: Picture, v: Picture, i: Picture, peak: float = 255) -> float:
    return 10 * math.log10(peak**2 / mean_squared_error(f, v, i))


def gaussian(size: int, sigma: float) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - size // 2
    window = np.exp(-(x**2 + y**2) / (2 * sigma**2))
    return window / window.sum()


def windows(a: np.ndarray, window: np.ndarray) -> np.ndarray:
    return signal.convolve2d(a, window, mode="valid")


def vif_scales(s: Picture, f: Picture) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Variance of the source, gain, and unexplained variance, at four scales (VIFp of Sheikh and Bovik)."""
    scales = []
    for scale in range(4):
        size = 2 ** (4 - scale) + 1
        window = gaussian(size, size / 5)
        if scale:
            s, f = windows(s, window)[::2, ::2], windows(f, window)[::2, ::2]
        mean_s, mean_f = windows(s, window), windows(f, window)
        var_s = np.maximum(windows(s * s, window) - mean_s**2, 0)
        var_f = np.maximum(windows(f * f, window) - mean_f**2, 0)
        cov = windows(s * f, window) - mean_s * mean_f
        gain = cov / (var_s + 1e-10)
        rest = var_f - gain * cov
        flat = var_s < 1e-10
        gain[flat], rest[flat], var_s[flat] = 0, var_f[flat], 0
        flat = var_f < 1e-10
        gain[flat], rest[flat] = 0, 0
        negative = gain < 0
        gain[negative], rest[negative] = 0, var_f[negative]
        scales.append((var_s, gain, np.maximum(rest, 1e-10)))
    return scales


def vif(s: Picture, f: Picture) -> float:
    scales = vif_scales(s, f)
    kept = sum(np.sum(np.log10(1 + gain**2 * var / (rest + 2))) for var, gain, rest in scales)
    return float(kept / sum(np.sum(np.log10(1 + var / 2)) for var, _, _ in scales))


def visual_information_fidelity(f: Picture, v: Picture, i: Picture) -> float:
    return over_sources(vif, f, v, i)


def visual_information_fidelity_for_fusion(f: Picture, v: Picture, i: Picture) -> float:
    noise, total = 0.005 * 255 * 255, 0.0
    for weight, first, second in zip((1, 0, 0.15, 1), vif_scales(i, f), vif_scales(v, f), strict=True):
        takes_first = first[1] < second[1]
        var, gain, rest = (np.where(takes_first, a, b) for a, b in zip(first, second, strict=True))
        kept = np.log10(1 + gain**2 * var / (rest + noise)) + 1e-7
        total += weight / 2.15 * np.sum(kept) / np.sum(np.log10(1 + var / noise) + 1e-7)
    return float(total)


def edges(a: Picture, boundary: str = "fill") -> tuple[np.ndarray, np.ndarray]:
    """Strength and angle of Sobel's gradient."""
    across = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    x = signal.convolve2d(a, across, mode="same", boundary=boundary)
    y = signal.convolve2d(a, -across.T, mode="same", boundary=boundary)
    with np.errstate(divide="ignore", invalid="ignore"):
        angle = np.where(x == 0, np.pi / 2, np.arctan(y / x))
    return np.sqrt(x**2 + y**2), angle


def gradient_preservation(f: Picture, v: Picture, i: Picture) -> float:
    (g_f, a_f), kept, total = edges(f), 0.0, 0.0
    for source in (v, i):
        g_s, a_s = edges(source)
        with np.errstate(divide="ignore", invalid="ignore"):
            strength = np.where(g_s > g_f, g_f / g_s, np.where(g_s == g_f, g_f, g_s / g_f))
        angle = 1 - np.abs(a_s - a_f) / (np.pi / 2)
        quality = 0.9994 / (1 + np.exp(-15 * (strength - 0.5))) * 0.9879 / (1 + np.exp(-22 * (angle - 0.8)))
        kept, total = kept + np.sum(quality * g_s), total + np.sum(g_s)
    return float(kept / total)


def stretch(a: Picture) -> Picture:
    return np.floor((a - a.min()) / (a.max() - a.min()) * 255 + 0.5)


def frequencies(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """MATLAB's freqspace, in the order of fft2: -1..1 for the highest frequencies."""
    v, u = (2 * np.fft.fftfreq(n) for n in shape)
    return v[:, None], u[None]


def frequency_filter(a: Picture, gain: np.ndarray) -> Picture:
    return np.real(np.fft.ifft2(np.fft.fft2(a) * gain))


def chen_blum_quality(f: Picture, v: Picture, i: Picture) -> float:
    height, width = f.shape
    y, x = frequencies(f.shape)
    r = np.hypot(height / 30 * y, width / 30 * x)
    gain = np.exp(-((r / 15.3870) ** 2)) - 0.7622 * np.exp(-((r / 1.3456) ** 2))
    y, x = np.mgrid[-15:16, -15:16]
    narrow, wide = (np.exp(-(x**2 + y**2) / (2 * s * s)) / (2 * np.pi * s * s) for s in (2, 4))

    def contrast(a: Picture) -> np.ndarray:
        a = frequency_filter(stretch(a), gain)
        c = signal.convolve2d(a, narrow, mode="same") / signal.convolve2d(a, wide, mode="same") - 1
        return np.abs(c) ** 3 / (np.abs(c) ** 2 + 1e-4)

    own, first, second = contrast(f), contrast(v), contrast(i)
    weight = first**2 / (first**2 + second**2)
    kept = [np.minimum(own, c) / np.maximum(own, c) for c in (first, second)]
    return float(np.mean(weight * kept[0] + (1 - weight) * kept[1]))


def chen_varshney_quality(f: Picture, v: Picture, i: Picture) -> float:
    f, v, i = stretch(f), stretch(v), stretch(i)
    height, width = f.shape
    y, x = frequencies(f.shape)
    r = np.hypot(height / 8 * y, width / 8 * x)
    gain = 2.6 * (0.0192 + 0.144 * r) * np.exp(-((0.144 * r) ** 1.1))
    above = below = 0.0
    for source in (v, i):
        difference, strength = frequency_filter(source - f, gain), edges(source)[0]
        for top in range(0, height, 16):
            for left in range(0, width, 16):
                block = (slice(top, top + 16), slice(left, left + 16))
                weight = np.sum(strength[block] ** 5)
                above += weight * np.sum(difference[block] ** 2) / 256
                below += weight
    return float(above / below)


def ssim(s: Picture, f: Picture) -> tuple[float, float]:
    """The mean of SSIM over Gaussian windows, and of its factor of contrast and structure."""
    window, c1, c2 = gaussian(11, 1.5), (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_s, mean_f = windows(s, window), windows(f, window)
    var_s, var_f = windows(s * s, window) - mean_s**2, windows(f * f, window) - mean_f**2
    cov = windows(s * f, window) - mean_s * mean_f
    structure = (2 * cov + c2) / (var_s + var_f + c2)
    likeness = (2 * mean_s * mean_f + c1) / (mean_s**2 + mean_f**2 + c1)
    return float(np.mean(likeness * structure)), float(np.mean(structure))


def structural_similarity(
    f: Picture, v: Picture, i: Picture, uniform: bool = False, dynamic_range: float = 255
) -> float:
    options = {} if uniform else {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return over_sources(
        lambda s, f: float(metrics.structural_similarity(s, f, data_range=dynamic_range, **options)), f, v, i
    )


def multi_scale_structural_similarity(f: Picture, v: Picture, i: Picture) -> float:
    def halved(a: Picture) -> Picture:
        a = np.pad(a, [(n % 2, 0) for n in a.shape])
        return (a[::2, ::2] + a[1::2, ::2] + a[::2, 1::2] + a[1::2, 1::2]) / 4

    def score(s: Picture, f: Picture) -> float:
        product = 1.0
        for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
            if scale:
                s, f = halved(s), halved(f)
            whole, structure = ssim(s, f)
            product *= max(whole if scale == 4 else structure, 0) ** weight
        return product

    return over_sources(score, f, v, i)


def feature_mutual_information(f: Picture, v: Picture, i: Picture) -> float:
    """On grey values; a loop over the windows, as it was published. Seconds for 50 x 60 pixels."""

    def score(s: Picture, f: Picture) -> float:
        views = (np.lib.stride_tricks.sliding_window_view(a, (3, 3)).transpose(0, 1, 3, 2) for a in (s, f))
        pairs = zip(*(view.reshape(-1, 9) for view in views), strict=True)
        return float(np.mean([window_information(a, b) for a, b in pairs]))

    return over_sources(score, f, v, i) / 2


def window_information(s: np.ndarray, f: np.ndarray) -> float:
    """2 I / (H_S + H_F) of two windows of nine values, from all 81 cells of the joint distribution."""
    if np.array_equal(s, f):
        return 1.0
    s, f = (np.ones(9) if np.ptp(a) == 0 else (a - a.min()) / np.ptp(a) for a in (s, f))
    s, f = s / s.sum(), f / f.sum()
    correlation = 0.0 if np.ptp(s) == 0 or np.ptp(f) == 0 else float(np.corrcoef(s, f)[0, 1])
    cumulated_s, cumulated_f = np.cumsum(s), np.cumsum(f)
    if correlation >= 0:
        bound = np.minimum.outer(cumulated_s, cumulated_f)
    else:
        bound = np.maximum(np.add.outer(cumulated_s, cumulated_f) - 1, 0)
    index = np.arange(1, 10)
    deviations = [math.sqrt(max(np.sum(index**2 * p) - np.sum(index * p) ** 2, 0)) for p in (s, f)]
    share = 0.0
    if correlation and min(deviations) > 1e-6:
        covariance = np.sum(bound - np.outer(cumulated_s, cumulated_f))
        share = correlation / (covariance / math.prod(deviations))
    cells = np.diff(np.diff(np.pad(bound, ((1, 0), (1, 0))), axis=0), axis=1)
    joint = share * cells + (1 - share) * np.outer(s, f)

    def total(p: np.ndarray) -> float:
        p = p[np.abs(p) > 1e-15]
        return float(-np.sum(p * np.log2(np.abs(p))))

    entropies = total(s) + total(f)
    return 2 * (entropies - total(joint)) / entropies if entropies else 0.0
