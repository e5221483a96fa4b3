"""What corruptions are made of, held against OpenCV and scipy: curves, interpolation, blurs and warps."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy import ndimage

from crossband import colour
from crossband.pairs.corruption import infrared, kernels, registration
from crossband.pairs.corruption.curves import decay, to_linear, to_srgb
from crossband.pairs.corruption.interpolation import at_points, going_round, on_grid, repeating_edges


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """Textured, float32 (90, 70) in [0, 1], with black and white corners."""
    blocks = np.random.default_rng(3).random((18, 14), dtype=np.float32).repeat(5, axis=0).repeat(5, axis=1)
    blocks[:10, :10], blocks[-10:, -10:] = 0, 1
    return blocks


def test_curves_are_those_of_srgb_and_the_exponential() -> None:
    levels = np.linspace(0, 1, 300_001)
    for ours, theirs in ((to_linear, colour.to_linear), (to_srgb, colour.to_srgb)):
        np.testing.assert_allclose(ours(levels), theirs(levels), rtol=0, atol=1e-7)
        assert (np.diff(ours(levels)) >= 0).all()
        assert ours(np.float32([[0.0, 1.0]])).tolist() == [[0.0, 1.0]]
    depths = np.linspace(-1, 10, 10_001)
    np.testing.assert_allclose(decay(depths), np.exp(-depths), rtol=0, atol=1e-7)


def test_interpolation_is_bilinear(image) -> None:
    rng = np.random.default_rng(0)
    rows, columns = rng.uniform(-9, 99, 50), rng.uniform(-9, 79, 40)
    grid = np.meshgrid(rows, columns, indexing="ij")
    expected = ndimage.map_coordinates(image.astype(np.float64), grid, order=1, mode="nearest")
    ours = on_grid(image, repeating_edges(rows, 90), repeating_edges(columns, 70))
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6)
    ours = at_points(image, repeating_edges(grid[0], 90), repeating_edges(grid[1], 70))
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6)
    far = [20 + 7 * places for places in grid]
    expected = ndimage.map_coordinates(image.astype(np.float64), np.abs(far), order=1, mode="grid-wrap")
    ours = on_grid(image, going_round(np.abs(far[0][:, 0]), 90), going_round(np.abs(far[1][0]), 70))
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("radius", [0.4, 2.3, 6.5])
def test_a_disk_is_the_mean_of_its_pixels(image, radius: float) -> None:
    y, x = np.mgrid[-8:9, -8:9]
    disk = np.clip(radius + 0.5 - np.hypot(y, x), 0, 1)
    expected = ndimage.correlate(image.astype(np.float64), disk / disk.sum(), mode="nearest")
    np.testing.assert_allclose(kernels.disk_blur(image, radius), expected, rtol=0, atol=1e-6)
    coloured = np.stack([image, 1 - image, image / 2], axis=2)
    np.testing.assert_allclose(kernels.disk_blur(coloured, radius)[..., 0], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("length", "angle"), [(3.0, 0.2), (13.0, 0.0), (14.5, 1.1)])
def test_a_line_is_the_mean_of_points_on_it(image, length: float, angle: float) -> None:
    steps = np.linspace(-length / 2, length / 2, 8 * max(1, int(np.ceil(length / 2))) + 1)
    y, x = np.indices(image.shape, dtype=np.float64)[..., None]
    points = np.clip(y + steps * np.sin(angle), 0, 89), np.clip(x + steps * np.cos(angle), 0, 69)
    expected = ndimage.map_coordinates(image.astype(np.float64), points, order=1).mean(axis=2)
    np.testing.assert_allclose(kernels.line_blur(image, length, angle), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("deviation", [0.8, 4.5, 9.1])
def test_the_gaussian_is_that_of_opencv(image, deviation: float) -> None:
    expected = cv2.GaussianBlur(image, (0, 0), deviation, borderType=cv2.BORDER_REPLICATE)
    np.testing.assert_allclose(kernels.gaussian_blur(image, deviation), expected, rtol=0, atol=2e-6)


def test_a_filter_gives_the_sums_of_whole_numbers(image) -> None:
    """Through OpenCV's transform (81 weights) too, whose error is far below the half that rounding mends."""
    weights = np.rint(2.0**22 * np.full((9, 9), 1 / 81) + np.arange(81).reshape(9, 9))
    whole = np.rint(image * 2.0**22)
    found = cv2.filter2D(whole.astype(np.float64), -1, weights, borderType=cv2.BORDER_REPLICATE)
    exact = ndimage.correlate(whole.astype(np.int64), weights.astype(np.int64), mode="nearest")
    assert np.abs(found - exact).max() < 0.1


def test_the_mean_is_exact(image) -> None:
    assert kernels.exact_mean(image) == pytest.approx(image.mean(dtype=np.float64), abs=1e-7)
    assert kernels.exact_mean(np.ones((7, 3), np.float32)) == 1


def test_what_lies_between_cameras_are_homographies(image) -> None:
    """That of OpenCV from the same corners, and the plain matrices of a shift and a scale."""
    rng = np.random.default_rng(5)
    corners = np.float32([[0, 0], [70, 0], [70, 90], [0, 90]])
    moved = corners + 0.06 * (2 * rng.random((4, 2)) - 1) * [70, 90]
    matrix = cv2.getPerspectiveTransform(corners, moved.astype(np.float32))
    ours = registration.homography(image, 0.06, np.random.default_rng(5))
    np.testing.assert_allclose(ours, warped(image, matrix), rtol=0, atol=1e-5)

    angle = 2 * np.pi * np.random.default_rng(5).random()
    step = 0.06 * 90 * np.array([np.cos(angle), np.sin(angle)])
    ours = registration.shift(image, 0.06, np.random.default_rng(5))
    matrix = np.array([[1, 0, step[0]], [0, 1, step[1]], [0, 0, 1]])
    np.testing.assert_allclose(ours, warped(image, matrix), rtol=0, atol=1e-5)

    factor = 1.1 if np.random.default_rng(5).random() < 0.5 else 1 / 1.1
    matrix = np.array([[factor, 0, 34.5 * (1 - factor)], [0, factor, 44.5 * (1 - factor)], [0, 0, 1]])
    ours = registration.scale(image, 0.1, np.random.default_rng(5))
    np.testing.assert_allclose(ours, warped(image, matrix), rtol=0, atol=1e-5)


def warped(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The image under a homography by scipy, in float64: OpenCV's own rounds positions."""
    inverse = np.linalg.inv(matrix)
    y, x = np.indices(image.shape, dtype=np.float64)
    columns, rows, below = np.tensordot(inverse, np.stack([x, y, np.ones_like(x)]), axes=1)
    places = [rows / below, columns / below]
    return ndimage.map_coordinates(image.astype(np.float64), places, order=1, mode="nearest")


def test_a_halo_keeps_the_mean_of_a_flat_image() -> None:
    flat = np.full((40, 30), 0.3, np.float32)
    np.testing.assert_allclose(infrared.halo(flat, 1.8, np.random.default_rng(0)), flat, rtol=0, atol=1e-6)
