"""Batch-norm statistics of the infrared branch alone."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from crossband.errors import OptionError, PairError
from crossband.pairs.base import Classes, Pair, Pairs, PairSubset
from crossband.pairs.loading import EpochBatches, collate
from crossband.pairs.scenes import Scenes
from crossband.recalibration import recalibrate, recalibrate_run
from crossband.systems.csknet.network import CSKNet
from crossband.systems.deeplabv3plus import DeepLabV3Plus
from crossband.weights import load_run, make_card, save_run
from tiny_systems import CLASSES, csknet, tiny

PAIRS = Scenes("train", count=4, size=(32, 48))


def trained() -> CSKNet:
    """A CSK-Net whose norms have seen some exchanged batches."""
    system = csknet()
    batch = collate(list(PAIRS))
    for _ in range(3):
        system(batch.visible, batch.infrared)
    return system.eval()


def statistics_by_hand(system: CSKNet, infrared: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and unbiased variance of what enters every norm of the infrared branch, each norm normalising
    by the batch itself."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def replaced(name: str, norm: _BatchNorm) -> None:
        def forward(x: Tensor) -> Tensor:
            seen[name] = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3), correction=1)
            variance = x.var(dim=(0, 2, 3), correction=0)
            y = (x - seen[name][0][:, None, None]) / (variance + norm.eps)[:, None, None].sqrt()
            y = y * norm.weight[:, None, None] + norm.bias[:, None, None]
            return norm.act(y) if hasattr(norm, "act") else y

        norm.forward = forward  # type: ignore[method-assign]

    branch = system.infrared.eval()
    for name, module in branch.named_modules():
        if isinstance(module, _BatchNorm):
            replaced(name, module)
    with torch.no_grad():
        branch(system.band_input(infrared))
    return seen


def test_statistics_of_one_batch_are_those_of_that_batch() -> None:
    system = trained()
    alone = recalibrate(system, PAIRS, batch_size=4)
    wanted = statistics_by_hand(system, collate(list(PAIRS)).infrared)
    norms = {name: m for name, m in alone.network.named_modules() if isinstance(m, _BatchNorm)}
    assert norms.keys() == wanted.keys()
    assert len(norms) > 20
    for name, norm in norms.items():
        mean, variance = wanted[name]
        assert torch.allclose(norm.running_mean, mean, atol=1e-4, rtol=1e-3), name
        assert torch.allclose(norm.running_var, variance, atol=1e-4, rtol=1e-3), name


def test_several_batches_are_averaged() -> None:
    system = trained()
    alone = recalibrate(system, PAIRS, batch_size=2)
    stem = system.infrared.encoder.model.conv_stem
    with torch.no_grad():
        x = stem(system.band_input(collate(list(PAIRS)).infrared))
    # Batches of one size: the mean over all is the mean of the batches' means, in whatever order.
    norm = alone.network.encoder.model.bn1
    assert torch.allclose(norm.running_mean, x.mean(dim=(0, 2, 3)), atol=1e-6)
    assert norm.num_batches_tracked == 2
    assert norm.momentum == system.infrared.encoder.model.bn1.momentum == 0.1


class Watched(PairSubset):
    """Pairs that keep the order in which they were read."""

    def __init__(self, pairs: Pairs):
        super().__init__(pairs, range(len(pairs)), "train")
        self.read: list[int] = []

    def __getitem__(self, index: int) -> Pair:
        self.read.append(index)
        return super().__getitem__(index)


@pytest.mark.parametrize(("count", "batch_size", "sizes"), [(7, 3, [3, 2, 2]), (3, 2, [3]), (3, 8, [3])])
def test_every_pair_counts_once_and_alike(count: int, batch_size: int, sizes: list[int]) -> None:
    """Also where they do not fill batches: the mean over all pairs, and no batch of one."""
    system, pairs = trained(), Watched(Scenes("train", count=count, size=(32, 48)))
    read: list[int] = []
    alone = recalibrate(
        system, pairs, batch_size=batch_size, progress=lambda done, total: read.append(len(pairs.read))
    )
    assert sorted(pairs.read) == list(range(count))
    assert read == [sum(sizes[: place + 1]) for place in range(len(sizes))]
    with torch.no_grad():
        x = system.infrared.encoder.model.conv_stem(system.band_input(collate(list(pairs)).infrared))
    assert torch.allclose(alone.network.encoder.model.bn1.running_mean, x.mean(dim=(0, 2, 3)), atol=1e-6)


def test_batches_that_pairs_fill_are_those_of_a_training_epoch() -> None:
    pairs = Watched(PAIRS)
    recalibrate(trained(), pairs, batch_size=2, seed=5)
    assert pairs.read == [draw.index for batch in EpochBatches(len(PAIRS), 2, seed=5) for draw in batch]


def test_the_system_is_left_as_it_was_and_weights_are_copied() -> None:
    system = trained()
    before = {key: value.clone() for key, value in system.state_dict().items()}
    random_state = torch.get_rng_state()
    alone = recalibrate(system, PAIRS, batch_size=2)
    assert torch.equal(torch.get_rng_state(), random_state)
    after = system.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert not system.training
    for (name, ours), theirs in zip(
        alone.network.named_parameters(), system.infrared.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs), name
        assert ours.data_ptr() != theirs.data_ptr(), name
    changed = {k for k, v in alone.network.state_dict().items() if not torch.equal(v, after[f"infrared.{k}"])}
    assert changed
    assert all(key.endswith(("running_mean", "running_var", "num_batches_tracked")) for key in changed)


def test_the_result_is_an_infrared_deeplabv3plus_in_eval_mode() -> None:
    alone = recalibrate(trained(), PAIRS, batch_size=2)
    assert isinstance(alone, DeepLabV3Plus)
    assert dict(alone.supports) == {"infrared": "designed"}
    assert not any(module.training for module in alone.modules())


def test_a_plain_infrared_network_is_recalibrated_alike() -> None:
    system = trained()
    plain = system.infrared_system()
    before = {key: value.clone() for key, value in plain.state_dict().items()}
    ours, plains = (recalibrate(one, PAIRS, batch_size=2).state_dict() for one in (system, plain))
    assert all(torch.equal(ours[key], plains[key]) for key in ours)
    assert all(torch.equal(value, before[key]) for key, value in plain.state_dict().items())


def test_it_depends_on_the_seed_and_nothing_else() -> None:
    system = trained()
    states = []
    # Of four pairs, seeds 0 and 1 make batches of different ones; other seeds only turn them round.
    for seed, noise in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(noise)
        states.append(recalibrate(system, PAIRS, batch_size=2, seed=seed).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert any(not torch.equal(states[0][key], states[2][key]) for key in states[0])


def test_progress_counts_batches() -> None:
    seen: list[tuple[int, int]] = []
    recalibrate(trained(), PAIRS, batch_size=2, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


def test_a_single_pair_gives_no_statistics() -> None:
    with pytest.raises(OptionError, match="at least 2 pairs, not 1"):
        recalibrate(trained(), PAIRS, batch_size=1)

    with pytest.raises(PairError, match=r"at least 2 pairs, but .* split train, has 1"):
        recalibrate(trained(), PairSubset(PAIRS, [0], "train"))


def test_infrared_images_are_needed() -> None:
    pairs = PairSubset(PAIRS, range(4), "train")
    pairs.bands = ("visible",)
    with pytest.raises(OptionError, match="no infrared images"):
        recalibrate(trained(), pairs)


# --- run folders

CLASS_LIST = Classes(names=tuple("abcde"), palette=((0, 0, 0),) * CLASSES)


def saved(folder: Path, system: nn.Module) -> Path:
    save_run(folder, system, make_card(system, CLASS_LIST, "full-range", {"seed": 4}))  # type: ignore[arg-type]
    return folder


def test_a_run_is_recalibrated_into_a_run_of_its_own(tmp_path: Path) -> None:
    system = trained()
    run = saved(tmp_path / "run", system)
    recalibrate_run(run, "scenes,train=4,size=32x48", tmp_path / "out", batch_size=4, device="cpu")
    alone, card = load_run(tmp_path / "out")
    assert card.system == "deeplabv3plus"
    assert card.classes == CLASS_LIST
    assert card.training["seed"] == 4
    recalibrated = card.training["recalibrated"]
    assert (recalibrated["from"], recalibrated["system"]) == (str(run), "csknet")
    wanted = recalibrate(system, PAIRS, batch_size=4)
    infrared = collate(list(PAIRS)).infrared
    with torch.no_grad():
        assert torch.allclose(alone(infrared=infrared).logits, wanted(infrared=infrared).logits, atol=1e-5)


def test_what_cannot_be_recalibrated_is_refused(tmp_path: Path) -> None:
    run = saved(tmp_path / "run", trained())
    baseline = saved(tmp_path / "baseline", tiny("deeplabv3plus"))
    for split in ("test", "train+test", "test_night"):
        with pytest.raises(OptionError, match="the test split is for testing"):
            recalibrate_run(run, "scenes", tmp_path / "out", split=split)
    with pytest.raises(OptionError, match="is not empty; choose another run folder"):
        recalibrate_run(run, "scenes", run)
    with pytest.raises(OptionError, match="holds a deeplabv3plus on visible"):
        recalibrate_run(baseline, "scenes", tmp_path / "out")
    assert not (tmp_path / "out").exists()
