"""Pixel contrast: against hand-worked values and a plain double loop; what it draws; what it costs."""

import re
import subprocess
import sys
from collections import Counter
from math import exp, log
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.nn import functional as F

from counting import Work
from crossband.errors import OptionError
from crossband.systems.csknet.contrastive import PixelSampling, pixel_contrast, sample_pixels

IGNORE = 255
ALL = PixelSampling(anchors=10_000, per_class=10_000, hard_fraction=1.0)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixels(*vectors: tuple[float, ...]) -> Tensor:
    """(1, D, 1, n) embeddings, one vector a pixel."""
    return torch.tensor(vectors).T[None, :, None, :]


def plain_info_nce(embeddings: Tensor, label: Tensor, temperature: float, fraction: float) -> float:
    """Eq. 10 with semi-hard pairs as its text says it, anchor by anchor, each pair as a classification."""
    vectors = embeddings.permute(0, 2, 3, 1).flatten(0, 2)
    ids = label.flatten()
    vectors, ids = vectors[ids != IGNORE], ids[ids != IGNORE]
    anchors = []
    for i in range(len(ids)):
        similarity = F.cosine_similarity(vectors[i : i + 1], vectors) / temperature
        positive = torch.tensor([k != i and ids[k] == ids[i] for k in range(len(ids))])
        far = similarity[positive].sort().values
        near = similarity[ids != ids[i]].sort(descending=True).values
        if not len(far) or not len(near):
            continue
        far = far[: max(1, round(fraction * len(far)))]
        near = near[: max(1, round(fraction * len(near)))]
        pairs = [F.cross_entropy(torch.cat([s[None], near]), torch.tensor(0)).item() for s in far]
        anchors.append(sum(pairs) / len(pairs))
    return sum(anchors) / len(anchors) if anchors else 0.0


def test_two_by_two_by_hand() -> None:
    # Directions: right, up (class 0); left, down (class 1); lengths must not matter. Temperature 1/2.
    # Every anchor: one positive at cosine 0, r = e^0 = 1; negatives at cosine -1 and 0, r = e^-2 and 1.
    # -log(1 / (1 + e^-2 + 1)) = log(2 + e^-2)
    embeddings = pixels((2, 0), (0, 3), (-1, 0), (0, -5)).reshape(1, 2, 2, 2)
    label = torch.tensor([[[0, 0], [1, 1]]])
    loss = pixel_contrast(embeddings, label, temperature=0.5, sampling=ALL)
    assert loss.item() == pytest.approx(log(2 + exp(-2)), rel=1e-6)


def test_semi_hard_pairs_by_hand() -> None:
    # Class 0: right, right, up. Class 1: left, up. Temperature 1, one pair of each kind (fraction 0.1).
    # right (twice): farthest positive is up at 0, nearest negative is up at 0:  log(1 + 1)
    # up (class 0):  farthest positive is right at 0, nearest negative is up at 1: log(1 + e)
    # left (class 1): positive up at 0, nearest negative is up at 0:             log(1 + 1)
    # up (class 1):  positive left at 0, nearest negative is up at 1:            log(1 + e)
    embeddings = pixels((1, 0), (1, 0), (0, 1), (-1, 0), (0, 1))
    label = torch.tensor([[[0, 0, 0, 1, 1]]])
    loss = pixel_contrast(embeddings, label, temperature=1.0)
    assert loss.item() == pytest.approx((3 * log(2) + 2 * log(1 + exp(1))) / 5, rel=1e-6)


@pytest.mark.parametrize("fraction", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_a_plain_loop(seed: int, fraction: float) -> None:
    generator = seeded(seed)
    embeddings = torch.randn(2, 6, 7, 8, generator=generator)
    label = torch.randint(0, 4, (2, 7, 8), generator=generator)
    label[torch.rand(label.shape, generator=generator) < 0.2] = IGNORE
    label[0, 0, 0] = 4  # a class with a single pixel: no anchor, but a negative of all others
    sampling = PixelSampling(anchors=1024, per_class=100, hard_fraction=fraction)
    loss = pixel_contrast(embeddings, label, temperature=0.2, sampling=sampling)
    assert loss.item() == pytest.approx(plain_info_nce(embeddings, label, 0.2, fraction), rel=1e-5)


def test_pixels_over_the_cap_of_their_class_take_no_part() -> None:
    embeddings = torch.randn(1, 6, 8, 8, generator=seeded(0))
    label = torch.randint(0, 3, (1, 8, 8), generator=seeded(1))
    label[0, 0] = IGNORE
    sampling = PixelSampling(anchors=60, per_class=5, hard_fraction=1.0)
    loss = pixel_contrast(embeddings, label, temperature=0.2, sampling=sampling, generator=seeded(2))
    chosen, usable = sample_pixels(label, None, sampling, generator=seeded(2))
    drawn = torch.full_like(label, IGNORE)
    drawn.view(-1)[chosen[usable]] = label.view(-1)[chosen[usable]]
    assert (drawn != IGNORE).sum() == 15
    assert loss.item() == pytest.approx(plain_info_nce(embeddings, drawn, 0.2, 1.0), rel=1e-5)


def test_labels_and_predictions_are_downsampled_to_the_nearest_pixel() -> None:
    label = torch.randint(0, 3, (2, 48, 64), generator=seeded(0))
    prediction = torch.randint(0, 3, (2, 48, 64), generator=seeded(1))
    embeddings = torch.randn(2, 5, 12, 16, generator=seeded(2))
    small, small_prediction = (
        F.interpolate(ids[:, None].double(), size=(12, 16), mode="nearest")[:, 0].long()
        for ids in (label, prediction)
    )
    sampling = PixelSampling(anchors=40)
    large = pixel_contrast(embeddings, label, prediction=prediction, sampling=sampling, generator=seeded(3))
    exact = pixel_contrast(
        embeddings, small, prediction=small_prediction, sampling=sampling, generator=seeded(3)
    )
    assert large == exact


def test_gradient() -> None:
    embeddings = torch.randn(1, 3, 3, 4, dtype=torch.float64, generator=seeded(0), requires_grad=True)
    label = torch.tensor([[[0, 0, 1, 1], [0, 2, 1, 1], [0, IGNORE, 2, 2]]])
    assert torch.autograd.gradcheck(
        lambda e: pixel_contrast(e, label, temperature=0.5, generator=seeded(1)), embeddings
    )


def test_descent_gathers_classes() -> None:
    embeddings = torch.randn(2, 8, 8, 8, generator=seeded(0), requires_grad=True)
    label = torch.randint(0, 3, (2, 8, 8), generator=seeded(1))
    optimizer = torch.optim.Adam([embeddings], lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        pixel_contrast(embeddings, label, generator=seeded(2)).backward()
        optimizer.step()
    directions = F.normalize(embeddings.detach(), dim=1).permute(0, 2, 3, 1).flatten(0, 2)
    cosine, same = directions @ directions.T, label.flatten()[:, None] == label.flatten()
    assert cosine[same].min() > cosine[~same].max() + 0.2


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize(
    "label",
    [
        torch.full((1, 4, 4), IGNORE),
        torch.zeros(1, 4, 4, dtype=torch.int64),
        torch.arange(16).reshape(1, 4, 4),
    ],
    ids=["nothing counts", "one class: no negatives", "single pixels: no positives"],
)
def test_nothing_valid_is_zero_with_a_graph(label: Tensor) -> None:
    embeddings = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = pixel_contrast(embeddings, label)
    assert loss.item() == 0
    with torch.autograd.detect_anomaly(check_nan=True):
        pixel_contrast(embeddings, label).backward()
    assert torch.equal(embeddings.grad, torch.zeros_like(embeddings))


def test_zero_embeddings_have_finite_gradients_in_float16() -> None:
    embeddings = torch.randn(1, 8, 6, 6, generator=seeded(0)).half()
    embeddings[:, :, 0] = 0
    embeddings.requires_grad_()
    pixel_contrast(embeddings, torch.randint(0, 2, (1, 6, 6), generator=seeded(1))).backward()
    assert torch.isfinite(embeddings.grad).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_changes_nothing(dtype: torch.dtype) -> None:
    embeddings = torch.randn(2, 16, 8, 8, generator=seeded(0))
    label = torch.randint(0, 3, (2, 8, 8), generator=seeded(1))
    plain = pixel_contrast(embeddings, label, generator=seeded(2))
    with torch.autocast("cpu", dtype=dtype):
        mixed = pixel_contrast(embeddings, label, generator=seeded(2))
    assert mixed.dtype == torch.float32
    assert mixed == plain


def test_seed_decides_the_draw() -> None:
    embeddings = torch.randn(2, 8, 32, 32, generator=seeded(0))
    label = torch.randint(0, 3, (2, 32, 32), generator=seeded(1))
    few = PixelSampling(anchors=64)

    def draw(seed: int) -> Tensor:
        return pixel_contrast(embeddings, label, sampling=few, generator=seeded(seed))

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    torch.manual_seed(5)
    first = pixel_contrast(embeddings, label, sampling=few)
    torch.manual_seed(5)
    assert pixel_contrast(embeddings, label, sampling=few) == first


def test_sampling_is_balanced_over_the_classes_of_each_image() -> None:
    # image 0: class 0 fills it but for 5 pixels of class 7. image 1: class 3, and one row that is ignored.
    label = torch.zeros(2, 20, 20, dtype=torch.int64)
    label[0, 3, :5] = 7
    label[1] = 3
    label[1, 0] = IGNORE
    chosen, usable = sample_pixels(label, None, PixelSampling(anchors=65, per_class=100))
    assert len(chosen) == len(set(chosen.tolist())) == 65
    assert usable.all()
    # 5 of class 7 is all there is; the other 60 places are shared evenly
    assert Counter(label.flatten()[chosen].tolist()) == {0: 30, 7: 5, 3: 30}


def test_sampling_caps_a_class_and_marks_places_left_empty() -> None:
    label = torch.zeros(1, 20, 20, dtype=torch.int64)
    label[0, :, 10:] = 1
    label[0, :4] = IGNORE
    chosen, usable = sample_pixels(label, None, PixelSampling(anchors=300, per_class=100))
    assert len(chosen) == 300
    assert Counter(label.flatten()[chosen[usable]].tolist()) == {0: 100, 1: 100}


def test_sampling_is_uniform_within_a_class() -> None:
    label = torch.zeros(1, 10, 10, dtype=torch.int64)
    generator = seeded(0)
    counts = torch.zeros(100)
    for _ in range(2000):
        chosen, _ = sample_pixels(label, None, PixelSampling(anchors=10), generator=generator)
        counts[chosen] += 1
    # binomial(2000, 1/10): mean 200, standard deviation 13.4; five of them
    assert (counts - 200).abs().max() < 5 * 13.4


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [(200, 50), (20, 20), (0, 0), (390, 90), (400, 100)],
    ids=["half and half", "few wrong", "none wrong", "few right", "all wrong"],
)
def test_half_of_the_anchors_are_misclassified_where_possible(wrong: int, expected: int) -> None:
    label = torch.ones(1, 20, 20, dtype=torch.int64)
    prediction = label.clone()
    prediction.view(-1)[:wrong] = 0
    chosen, usable = sample_pixels(label, prediction, PixelSampling(per_class=100))
    drawn = chosen[usable]
    assert len(drawn) == 100
    assert (prediction.flatten()[drawn] == 0).sum() == expected
    indifferent = PixelSampling(per_class=100, hard_anchors=False)
    chosen, usable = sample_pixels(label, prediction, indifferent, generator=seeded(0))
    # hypergeometric around 100 * wrong / 400, standard deviation at most 4.3
    assert abs((prediction.flatten()[chosen[usable]] == 0).sum() - wrong / 4) < 20


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_no_value_is_read_back_from_the_device(device: str) -> None:
    """Fake tensors have a shape and a device but no values: what waits for one, or mixes devices, raises."""
    with FakeTensorMode():
        embeddings = torch.empty(8, 128, 120, 160, device=device)
        label = torch.empty(8, 480, 640, dtype=torch.int64, device=device)
        loss = pixel_contrast(embeddings, label, prediction=label.clone())
        assert loss.shape == ()
        assert loss.device.type == device
        with pytest.raises(DataDependentOutputException):
            loss.item()


def test_work_grows_no_faster_than_the_number_of_pixels() -> None:
    def work(height: int, width: int) -> Work:
        embeddings = torch.randn(2, 4, height, width, requires_grad=True)
        label = torch.randint(0, 5, (2, height, width))
        with Work() as counted:
            pixel_contrast(embeddings, label, prediction=label).backward()
        assert counted.largest <= max(1024**2, embeddings.numel())
        return counted

    small, large = work(60, 80), work(240, 320)  # 16 times the pixels, 256 times the pairs of pixels
    assert large.total < 16 * small.total


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs /proc to read the peak memory")
@pytest.mark.slow
def test_memory_at_480_by_640_batch_8_is_below_300_mb() -> None:
    """Peak resident memory that loss and gradient add, for the largest of CSK-Net's levels."""
    program = """
import re, torch
from pathlib import Path
from crossband.systems.csknet.contrastive import pixel_contrast
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
def step(embeddings, label, prediction):
    pixel_contrast(embeddings, label, prediction=prediction).backward()
step(torch.randn(1, 4, 8, 8, requires_grad=True), *torch.randint(0, 9, (2, 1, 8, 8)))
embeddings = torch.randn(8, 128, 120, 160, requires_grad=True)
label, prediction = torch.randint(0, 9, (2, 8, 480, 640))
before = peak()
step(embeddings, label, prediction)
print(f"added {peak() - before:.0f} MB")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    added = int(re.search(r"added (\d+) MB", done.stdout)[1])
    # The gradient of the embeddings alone, 8 x 128 x 120 x 160 float32, is 75 MB.
    assert 75 <= added < 300, done.stdout


def test_wrong_arguments_are_named() -> None:
    embeddings, label = torch.randn(2, 4, 8, 8), torch.zeros(2, 8, 8, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"\(2, 4, 8, 8\) and \(1, 8, 8\)"):
        pixel_contrast(embeddings, label[:1])
    with pytest.raises(ValueError, match="prediction"):
        pixel_contrast(embeddings, label, prediction=label[:, :4])
    with pytest.raises(OptionError, match="temperature"):
        pixel_contrast(embeddings, label, temperature=0.0)
    with pytest.raises(OptionError, match="hard_fraction"):
        PixelSampling(hard_fraction=0.0)
    with pytest.raises(OptionError, match="at least 1"):
        PixelSampling(anchors=0)
