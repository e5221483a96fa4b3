"""Loading: batches that depend on seed and epoch alone, sharding, padding, and errors that stay readable."""

import gc
import weakref
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from crossband.errors import OptionError, PairError
from crossband.pairs.augmentation import Augmentation, augment
from crossband.pairs.base import Classes, Pair, Pairs, PairSubset, PairView
from crossband.pairs.batch import Batch
from crossband.pairs.folder import FolderPairs
from crossband.pairs.loading import (
    Draw,
    EpochBatches,
    PairDataset,
    collate,
    evaluation_loader,
    training_loader,
)
from crossband.words import IGNORE_INDEX

STRONG = Augmentation(
    scale=(0.7, 1.4),
    crop=(24, 32),
    brightness=0.3,
    contrast=0.3,
    saturation=0.3,
    gain=0.2,
    offset=0.1,
    noise=0.1,
)


class MadePairs(Pairs):
    """Noise pairs of given sizes; the pairs in ``broken`` cannot be read."""

    source = "made"
    split = "train"
    classes = Classes(("a", "b"), ((0, 0, 0), (255, 255, 255)))

    def __init__(
        self, sizes: Sequence[tuple[int, int]], *, broken: tuple[int, ...] = (), bands=("visible", "infrared")
    ):
        self.sizes = sizes
        self.broken = broken
        self.bands = bands

    def __len__(self) -> int:
        return len(self.sizes)

    def name(self, index: int) -> str:
        return f"pair{index}"

    def __getitem__(self, index: int) -> Pair:
        if index in self.broken:
            raise PairError(f"{self.name(index)}.png is truncated; copy it again")
        rng = np.random.default_rng(index)
        size = self.sizes[index]
        return Pair(
            name=self.name(index),
            visible=rng.random((*size, 3), dtype=np.float32) if "visible" in self.bands else None,
            infrared=rng.random(size, dtype=np.float32) if "infrared" in self.bands else None,
            label=rng.integers(0, 2, size).astype(np.uint8),
            condition="night" if index % 2 else None,
        )


def made(count: int, **options) -> MadePairs:
    return MadePairs([(30, 40)] * count, **options)


def assert_same(first: list[Batch], second: list[Batch]) -> None:
    assert [batch.names for batch in first] == [batch.names for batch in second]
    for one, other in zip(first, second, strict=True):
        for part in ("visible", "infrared", "label"):
            assert (getattr(one, part) is None) == (getattr(other, part) is None)
            assert getattr(one, part) is None or torch.equal(getattr(one, part), getattr(other, part))


def epoch_of(loader, epoch: int) -> list[Batch]:
    loader.batch_sampler.set_epoch(epoch)
    return list(loader)


def test_a_part_of_a_list_keeps_the_time_of_each_pair():
    class Timed(PairView):
        def time(self, index):
            return 40 * index

    part = PairSubset(Timed(made(3)), [2, 0], "part")
    assert [part.time(0), part.time(1)] == [80, 0]


def test_batches_do_not_depend_on_workers_or_on_what_ran_before():
    pairs = made(11)
    augmentation = Augmentation(**{**vars(STRONG), "band_dropout": 0.5})
    loaders = [training_loader(pairs, augmentation, batch_size=3, seed=4, workers=w) for w in (0, 2)]
    history = [[epoch_of(loader, epoch) for epoch in range(3)] for loader in loaders]
    for alone, parallel in zip(*history, strict=True):
        assert_same(alone, parallel)
    resumed = training_loader(pairs, augmentation, batch_size=3, seed=4, workers=0)
    assert_same(epoch_of(resumed, 2), history[0][2])


def test_epochs_and_seeds_differ_in_order_and_in_augmentation():
    loader = training_loader(made(12), STRONG, batch_size=4, seed=0, workers=0)
    first, second = epoch_of(loader, 0), epoch_of(loader, 1)
    other_seed = epoch_of(training_loader(made(12), STRONG, batch_size=4, seed=1, workers=0), 0)
    order = [[name for batch in run for name in batch.names] for run in (first, second, other_seed)]
    assert len({tuple(names) for names in order}) == 3
    twelve_times_the_same = PairSubset(made(1), [0] * 12, "repeated")
    results = [
        PairDataset(twelve_times_the_same, STRONG, seed)[Draw(epoch, index)].visible.tobytes()
        for seed, epoch, index in ((0, 0, 5), (1, 0, 5), (0, 1, 5), (0, 0, 6), (0, 0, 5))
    ]
    assert len(set(results)) == 4
    assert results[0] == results[-1]


def test_a_batch_holds_the_augmented_pairs_with_channels_first():
    pairs = made(4)
    loader = training_loader(pairs, STRONG, batch_size=4, seed=0, workers=0)
    (batch,) = epoch_of(loader, 3)
    dataset = PairDataset(pairs, STRONG, seed=0)
    for i, name in enumerate(batch.names):
        pair = dataset[Draw(3, int(name.removeprefix("pair")))]
        np.testing.assert_array_equal(batch.visible[i].permute(1, 2, 0), pair.visible)
        np.testing.assert_array_equal(batch.infrared[i, 0], pair.infrared)
        np.testing.assert_array_equal(batch.label[i], pair.label)
        assert batch.conditions[i] == pair.condition
    assert batch.visible.dtype == batch.infrared.dtype == torch.float32
    assert batch.label.dtype == torch.int64


def test_a_plain_index_gives_the_pair_as_it_is():
    np.testing.assert_array_equal(PairDataset(made(3), STRONG, seed=0)[1].visible, made(3)[1].visible)


def test_iterating_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    list(training_loader(made(4), STRONG, batch_size=2, seed=0, workers=0))
    list(evaluation_loader(made(4), workers=0))
    assert torch.equal(torch.get_rng_state(), before)


@settings(max_examples=100, deadline=None)
@given(
    length=st.integers(1, 60),
    batch_size=st.integers(1, 9),
    world_size=st.integers(1, 4),
    drop_last=st.booleans(),
    epoch=st.integers(0, 5),
)
def test_processes_share_the_steps_of_one(length, batch_size, world_size, drop_last, epoch):
    options = {"seed": 3, "drop_last": drop_last, "band_dropout": 0.5}
    ranks = [
        EpochBatches(length, batch_size, rank=rank, world_size=world_size, **options)
        for rank in range(world_size)
    ]
    alone = EpochBatches(length, batch_size * world_size, **options)
    for batches in (*ranks, alone):
        batches.set_epoch(epoch)
    steps = [list(batches) for batches in ranks]
    assert {len(own) for own in steps} == {len(batches) for batches in ranks} == {len(alone)}
    used = Counter(draw.index for own in steps for batch in own for draw in batch)
    surplus = used.total() - len(used)
    if drop_last:
        assert all(len(batch) == batch_size for own in steps for batch in own)
        assert surplus == max(batch_size * world_size - length, 0)
    else:
        assert len(used) == length
        assert surplus == -length % world_size
    for own, whole in zip(zip(*steps, strict=True), alone, strict=True):
        assert len({len(batch) for batch in own}) == 1
        together = [draw for batch in own for draw in batch]
        assert len({draw.missing for draw in together}) == 1
        if drop_last:
            assert sorted(draw.index for draw in together) == sorted(draw.index for draw in whole)
            assert together[0].missing == whole[0].missing


def test_every_pair_is_drawn_once_and_each_place_is_as_likely():
    batches = EpochBatches(20, 5, seed=0)
    firsts = Counter()
    for epoch in range(400):
        batches.set_epoch(epoch)
        indices = [draw.index for batch in batches for draw in batch]
        assert sorted(indices) == list(range(20))
        firsts[indices[0]] += 1
    assert len(firsts) == 20
    assert max(firsts.values()) < 45


def test_without_shuffling_the_order_is_that_of_the_list():
    batches = EpochBatches(7, 3, seed=0, shuffle=False, drop_last=False)
    assert [[draw.index for draw in batch] for batch in batches] == [[0, 1, 2], [3, 4, 5], [6]]


def test_a_short_list_fills_one_batch_and_a_last_batch_of_one_is_left_out():
    (batch,) = training_loader(made(3), None, batch_size=8, seed=0, workers=0)
    assert batch.visible.shape == (8, 3, 30, 40)
    assert set(batch.names) == {"pair0", "pair1", "pair2"}
    loader = training_loader(made(9), None, batch_size=4, seed=0, workers=0)
    assert [len(batch.names) for batch in loader] == [4, 4]
    assert len(loader) == 2


def test_band_dropout_takes_one_band_from_whole_batches():
    batches = EpochBatches(4000, 2, seed=1, band_dropout=0.4)
    missing = Counter()
    for batch in batches:
        (band,) = {draw.missing for draw in batch}
        missing[band] += 1
    assert missing.total() == 2000
    assert missing["visible"] == pytest.approx(400, abs=70)
    assert missing["infrared"] == pytest.approx(400, abs=70)
    loader = training_loader(made(40), Augmentation(band_dropout=1.0), batch_size=2, seed=0, workers=0)
    absent = {(batch.visible is None, batch.infrared is None) for batch in loader}
    assert absent == {(True, False), (False, True)}


def test_band_dropout_changes_neither_the_order_nor_the_other_band():
    with_dropout = Augmentation(**{**vars(STRONG), "band_dropout": 1.0})
    plain, dropped = (
        training_loader(made(8), a, batch_size=2, seed=0, workers=0) for a in (STRONG, with_dropout)
    )
    for whole, part in zip(plain, dropped, strict=True):
        assert whole.names == part.names
        for band in ("visible", "infrared"):
            assert getattr(part, band) is None or torch.equal(getattr(part, band), getattr(whole, band))


def test_band_dropout_needs_both_bands():
    one_band = made(4, bands=("infrared",))
    with pytest.raises(OptionError, match="made has only infrared"):
        training_loader(one_band, Augmentation(band_dropout=0.1), batch_size=2, seed=0, workers=0)
    with pytest.raises(PairError, match="'pair2' has no other band than infrared"):
        PairDataset(one_band, None, seed=0)[Draw(0, 2, "infrared")]
    (batch,) = training_loader(one_band, STRONG, batch_size=4, seed=0, workers=0)
    assert batch.visible is None
    assert batch.infrared.shape == (4, 1, 24, 32)


def test_collate_pads_to_the_largest_size():
    pairs = MadePairs([(5, 9), (7, 4)])
    batch = collate([pairs[0], pairs[1]])
    assert batch.visible.shape == (2, 3, 7, 9)
    assert batch.label.shape == (2, 7, 9)
    assert batch.valid.sum() == 5 * 9 + 7 * 4
    assert batch.valid[0, :5, :9].all()
    assert batch.valid[1, :7, :4].all()
    for i in range(2):
        height, width = pairs.sizes[i]
        margins = (0, 9 - width, 0, 7 - height)
        visible = torch.from_numpy(pairs[i].visible).permute(2, 0, 1)[None]
        infrared = torch.from_numpy(pairs[i].infrared)[None, None]
        label = torch.from_numpy(pairs[i].label).long()
        pad = torch.nn.functional.pad
        assert torch.equal(batch.visible[i : i + 1], pad(visible, margins, mode="replicate"))
        assert torch.equal(batch.infrared[i : i + 1], pad(infrared, margins, mode="replicate"))
        assert torch.equal(batch.label[i], pad(label, margins, value=IGNORE_INDEX))


def test_what_augmentation_added_is_not_valid_in_a_batch_either():
    pairs = MadePairs([(8, 9), (8, 9)])
    assert collate([pairs[0], pairs[1]]).valid is None
    narrow = augment(pairs[1], Augmentation(flip=0, crop=(8, 12)), np.random.default_rng(0))
    batch = collate([narrow, pairs[0]])
    assert batch.valid.shape == (2, 8, 12)
    assert batch.valid.sum() == 2 * 8 * 9


@pytest.mark.parametrize("part", ["visible", "infrared", "label"])
def test_collate_names_pairs_that_do_not_go_together(part):
    whole, other = made(2)[0], made(2)[1]
    setattr(other, part, None)
    with pytest.raises(PairError, match=rf"pair 'pair1' has no {part}.* pair 'pair0'"):
        collate([whole, other])
    setattr(whole, part, None)
    assert getattr(collate([whole, other]), part) is None


def error_of(loader) -> str:
    # Not pytest.raises: what it catches refers to the test's frame, and so keeps the workers alive.
    try:
        list(loader)
    except PairError as error:
        return str(error)
    return "none"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_pair_stays_one_line_through_a_worker(workers):
    pairs = made(6, broken=(4,))
    for loader in (
        training_loader(pairs, STRONG, batch_size=2, seed=0, workers=workers),
        evaluation_loader(pairs, workers=workers),
    ):
        assert error_of(loader) == "pair4.png is truncated; copy it again"


def test_a_bad_pair_leaves_no_workers_behind():
    loader = evaluation_loader(made(6, broken=(4,)), workers=1)
    gone = weakref.ref(loader)
    gc.disable()
    try:
        assert error_of(loader) != "none"
        del loader
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_batches_runs_of_equal_size_in_order(workers):
    small, large = (4, 6), (5, 6)
    pairs = MadePairs([small, small, large, large, large, small, small])
    batches = list(evaluation_loader(pairs, batch_size=3, workers=workers))
    assert [batch.names for batch in batches] == [
        ["pair0", "pair1"],
        ["pair2"],
        ["pair3", "pair4"],
        ["pair5"],
        ["pair6"],
    ]
    for batch in batches:
        for i, name in enumerate(batch.names):
            pair = pairs[int(name.removeprefix("pair"))]
            np.testing.assert_array_equal(batch.visible[i].permute(1, 2, 0), pair.visible)
            np.testing.assert_array_equal(batch.label[i], pair.label)
    assert len(evaluation_loader(pairs, workers=0)) == 7
    with pytest.raises(TypeError, match="not known before reading"):
        len(evaluation_loader(pairs, batch_size=3, workers=0))


def test_a_loader_can_be_left_early_and_used_again():
    loader = evaluation_loader(made(6), workers=2)
    assert next(iter(loader)).names == ["pair0"]
    assert [batch.names[0] for batch in loader] == [f"pair{i}" for i in range(6)]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"length": 0}, PairError, "no pairs"),
        ({"batch_size": 0}, OptionError, "batch size"),
        ({"seed": -1}, OptionError, "seed"),
        ({"rank": 2, "world_size": 2}, OptionError, "rank"),
    ],
)
def test_numbers_that_make_no_sense(options, error, message):
    with pytest.raises(error, match=message):
        EpochBatches(**{"length": 4, "batch_size": 2, "seed": 0, **options})


@pytest.mark.shared_data
def test_real_pairs_of_different_sizes(shared_data):
    pairs = FolderPairs(shared_data / "deadtree", "val")
    with Image.open(
        next((shared_data / "deadtree" / "val" / "infrared").glob(f"{pairs.name(0)}.*"))
    ) as image:
        stored = np.asarray(image.convert("L"), np.float32) / 255
    first = next(iter(evaluation_loader(pairs, workers=0)))
    np.testing.assert_allclose(first.infrared[0, 0], stored, atol=1.5 / 255)
    few = PairSubset(pairs, range(9), "few")
    sizes = {pair.size for pair in few}
    assert len(sizes) > 1, "the point of these pairs is that their sizes differ"
    assert sum(len(batch.names) for batch in evaluation_loader(few, batch_size=4, workers=2)) == 9
    (padded,) = training_loader(few, None, batch_size=9, seed=0, workers=0)
    height, width = (max(size[axis] for size in sizes) for axis in (0, 1))
    assert padded.infrared.shape == (9, 1, height, width)
    real = sum(height * width for height, width in (pair.size for pair in few))
    assert (padded.label != IGNORE_INDEX).sum() == real
    runs = [
        epoch_of(training_loader(few, STRONG, batch_size=4, seed=0, workers=workers), 1) for workers in (0, 2)
    ]
    assert_same(*runs)
    assert {int(i) for batch in runs[0] for i in batch.label.unique()} <= {0, 1, IGNORE_INDEX}


def test_lightning_advances_the_epoch(tmp_path):
    lightning = pytest.importorskip("lightning.pytorch")
    seen: list[list[str]] = []

    class Recorder(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))

        def on_train_epoch_start(self):
            seen.append([])

        def training_step(self, batch, _):
            seen[-1].extend(batch.names)
            return self.weight * batch.infrared.mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    loader = training_loader(made(6), Augmentation(), batch_size=3, seed=0, workers=0)
    trainer = lightning.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(Recorder(), loader)
    again = training_loader(made(6), Augmentation(), batch_size=3, seed=0, workers=0)
    assert seen == [[name for batch in epoch_of(again, epoch) for name in batch.names] for epoch in range(3)]
