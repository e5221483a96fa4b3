"""CDDFuse's losses against SciPy and numbers by hand."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from torch import Tensor

from crossband.losses.structure import similarity_map
from crossband.metrics.fusion.fidelity import visual_information_fidelity
from crossband.metrics.fusion.gradients import gradient_preservation
from crossband.metrics.fusion.pixelwise import sum_of_correlations_of_differences
from crossband.systems.cddfuse import losses

IMAGE_LOSSES = {
    "ssim": lambda x, y, valid: losses.ssim_loss(x, y, valid),
    "mse": lambda x, y, valid: losses.squared_error(x, y, valid),
    "intensity": lambda x, y, valid: losses.intensity_loss(x, y, 1 - y, valid),
    "gradient": lambda x, y, valid: losses.joint_gradient_loss(x, y, y**2, valid),
    "preservation": lambda x, y, valid: losses.edge_preservation(x, y, y**2, valid),
    "difference": lambda x, y, valid: losses.difference_correlation(x, y, y**2, valid),
    "correlation": lambda x, y, valid: losses.correlation(x, y, valid),
}
Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def maps(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def alike(*shape: int) -> tuple[Tensor, Tensor]:
    """Two maps that have something in common."""
    first = maps(*shape, seed=1)
    return first, 0.6 * first + 0.4 * maps(*shape, seed=2)


# --- correlation and decomposition


def test_correlation_is_scipys() -> None:
    first, second = alike(2, 3, 5, 7)
    each = [
        stats.pearsonr(one.flatten().numpy(), other.flatten().numpy()).statistic
        for one, other in zip(first.flatten(0, 1), second.flatten(0, 1), strict=True)
    ]
    assert losses.correlation(first, second).item() == pytest.approx(np.mean(each), abs=1e-9)
    assert losses.correlation(first, -2 * first + 3).item() == pytest.approx(-1)


def test_decomposition_by_hand() -> None:
    base, detail = alike(2, 3, 6, 6), (maps(2, 3, 6, 6, seed=3), maps(2, 3, 6, 6, seed=4) ** 2)
    of_base, of_detail = losses.correlation(*base).item(), losses.correlation(*detail).item()
    wanted = of_detail**2 / (1.01 + of_base)
    assert losses.decomposition_loss(base, detail).item() == pytest.approx(wanted, rel=1e-9)
    same = base[0], base[0]
    assert losses.decomposition_loss(same, same).item() == pytest.approx(1 / 2.01)
    opposite = base[0], -base[0]
    assert losses.decomposition_loss(opposite, same).item() == pytest.approx(1 / 0.01, rel=1e-6)


def test_a_constant_map_correlates_with_nothing_and_its_gradient_is_finite() -> None:
    flat = torch.full((1, 2, 4, 4), 0.5, requires_grad=True)
    other = maps(1, 2, 4, 4).float().requires_grad_()
    value = losses.correlation(flat, other)
    value.backward()
    assert value.item() == 0
    assert torch.isfinite(flat.grad).all()
    assert torch.isfinite(other.grad).all()
    assert losses.correlation(maps(1, 2, 1, 1), maps(1, 2, 1, 1, seed=1)).item() == 0


# --- reconstruction


def test_ssim_loss_and_squared_error_by_hand() -> None:
    restored, image = alike(2, 1, 12, 9)
    wanted = ((1 - similarity_map(restored, image)).clamp(0, 1) / 2).mean().item()
    assert losses.ssim_loss(restored, image).item() == pytest.approx(wanted)
    assert losses.ssim_loss(image, image).item() == pytest.approx(0, abs=1e-12)
    wanted = ((restored - image) ** 2).mean().item()
    assert losses.squared_error(restored, image).item() == pytest.approx(wanted)


def test_edges_are_scipys() -> None:
    restored, image = alike(1, 1, 9, 13)
    wanted = np.mean(
        [
            np.abs(
                ndimage.sobel(restored[0, 0].numpy(), axis=axis, mode="nearest")
                - ndimage.sobel(image[0, 0].numpy(), axis=axis, mode="nearest")
            ).mean()
            / 8
            for axis in (0, 1)
        ]
    )
    assert losses.edge_loss(restored, image).item() == pytest.approx(wanted, rel=1e-9)


# --- fusion


def test_intensity_by_hand() -> None:
    fused = torch.tensor([[0.5, 0.5], [0.5, 0.5]]).view(1, 1, 2, 2)
    visible = torch.tensor([[0.1, 0.9], [0.4, 0.5]]).view(1, 1, 2, 2)
    infrared = torch.tensor([[0.7, 0.2], [0.3, 0.5]]).view(1, 1, 2, 2)
    wanted = (0.2 + 0.4 + 0.1 + 0.0) / 4
    assert losses.intensity_loss(fused, visible, infrared).item() == pytest.approx(wanted, abs=1e-7)


def test_joint_gradient_is_scipys() -> None:
    fused, visible, infrared = (maps(1, 1, 8, 10, seed=seed) for seed in range(3))

    def edges(image: Tensor) -> np.ndarray:
        array = image[0, 0].numpy()
        return sum(np.abs(ndimage.sobel(array, axis=axis, mode="constant")) for axis in (0, 1))

    wanted = np.abs(edges(fused) - np.maximum(edges(visible), edges(infrared))).mean()
    result = losses.joint_gradient_loss(fused, visible, infrared).item()
    assert result == pytest.approx(wanted, rel=1e-9)


# --- all


@pytest.mark.parametrize("name", IMAGE_LOSSES)
def test_what_is_not_valid_does_not_count(name: str) -> None:
    loss: Loss = IMAGE_LOSSES[name]
    images = alike(1, 1, 14, 17)
    padded = [maps(1, 1, 20, 25, seed=9), maps(1, 1, 20, 25, seed=10)]
    valid = torch.zeros(1, 20, 25, dtype=torch.bool)
    valid[:, :14, :17] = True
    for more, image in zip(padded, images, strict=True):
        more[..., :14, :17] = image
    wanted = loss(*images, None).item()
    assert loss(*padded, valid).item() == pytest.approx(wanted, rel=1e-9)
    assert loss(*padded, None).item() != pytest.approx(wanted, rel=1e-3)
    assert loss(*images, torch.ones(1, 14, 17, dtype=torch.bool)).item() == pytest.approx(wanted)


def test_edges_beside_what_is_not_valid_stay_finite_and_uncounted() -> None:
    restored, image = alike(1, 1, 10, 10)
    valid = torch.zeros(1, 10, 10, dtype=torch.bool)
    valid[:, :6] = True
    value = losses.edge_loss(restored, image, valid)
    restored[..., 6:, :] = 0
    assert losses.edge_loss(restored, image, valid).item() == pytest.approx(value.item())
    valid[:] = False
    assert losses.edge_loss(restored, image, valid).item() == 0


@pytest.mark.parametrize("name", [*IMAGE_LOSSES, "edges"])
def test_half_precision_is_widened(name: str) -> None:
    loss: Loss = {**IMAGE_LOSSES, "edges": losses.edge_loss}[name]
    images = [image.half() for image in alike(1, 1, 40, 40)]
    value = loss(*images, None)
    assert value.dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = loss(*(image.float() for image in images), None)
    wanted = loss(*(image.double() for image in images), None).item()
    # y**2 and 1 - y of the test's own are in half precision.
    assert value.item() == pytest.approx(wanted, rel=1e-2)
    assert under.item() == pytest.approx(wanted, rel=1e-4)


# --- two metrics as losses


def test_edge_preservation_is_nearly_the_metric() -> None:
    visible, infrared = maps(2, 1, 20, 30, seed=1), maps(2, 1, 20, 30, seed=2)
    fused = 0.7 * visible + 0.3 * infrared
    metric = gradient_preservation(fused, visible, infrared, data_range=1.0).mean().item()
    assert 0.2 < metric < 0.9
    assert losses.edge_preservation(fused, visible, infrared).item() == pytest.approx(metric, abs=0.01)


def test_fidelity_is_the_metric() -> None:
    """Of images alike, whose mean over the batch is that of the sums."""
    visible, infrared = (maps(1, 1, 60, 70, seed=seed) for seed in (1, 2))
    fused = 0.7 * visible + 0.3 * infrared
    metric = visual_information_fidelity(fused, visible, infrared, data_range=1.0).item()
    assert losses.fidelity(fused, visible, infrared).sum().item() == pytest.approx(metric, rel=1e-3)


def test_fidelity_and_its_gradient_are_widened_under_autocast() -> None:
    """Squares on 0..255 have more digits than half precision, and variances are differences of them."""
    visible, infrared = (maps(2, 1, 60, 70, seed=seed).float() for seed in (1, 2))
    fused = (0.7 * visible + 0.3 * infrared).requires_grad_()
    made = []
    for on in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=on):
            shares = losses.fidelity(fused, visible, infrared)
        made.append((shares, *torch.autograd.grad(shares.sum(), fused)))
    assert made[1][0].dtype == torch.float32
    for plain, under in zip(*made, strict=True):
        torch.testing.assert_close(under, plain)


def test_each_share_of_fidelity_is_one_for_its_own_image() -> None:
    visible, infrared = (maps(1, 1, 60, 70, seed=seed) for seed in (1, 2))
    for place, image in enumerate((visible, infrared)):
        shares = losses.fidelity(image, visible, infrared)
        assert shares[place].item() == pytest.approx(1, abs=1e-3)
        assert shares[1 - place].item() < 0.5


def test_edge_preservation_is_best_where_both_are_the_picture() -> None:
    image = maps(1, 1, 20, 30)
    assert losses.edge_preservation(image, image, image).item() == pytest.approx(
        (0.9994 * 0.9879) ** 2, abs=1e-3
    )
    assert losses.edge_preservation(torch.zeros_like(image), image, image).item() < 0.01


@pytest.mark.parametrize("loss", [losses.edge_preservation, losses.fidelity])
def test_gradients_of_flat_pictures_are_finite(loss: Loss) -> None:
    fused = torch.full((1, 1, 48, 48), 0.5, requires_grad=True)
    image = maps(1, 1, 48, 48).float()
    loss(fused, image, torch.zeros_like(image)).sum().backward()
    assert fused.grad is not None
    assert fused.grad.isfinite().all()


def test_difference_correlation_is_the_metric() -> None:
    visible, infrared = alike(2, 1, 20, 30)
    fused = torch.maximum(visible, infrared)
    metric = sum_of_correlations_of_differences(fused, visible, infrared, data_range=1.0).mean().item()
    assert losses.difference_correlation(fused, visible, infrared).item() == pytest.approx(metric)
