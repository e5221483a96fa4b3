"""The tests that every system must pass, as one class: what our own systems are tested with.

A package that adds a system needs this and no more (pytest collects it):

    from crossband.testing import SystemContract

    class TestLateMean(SystemContract):
        system = "latemean"
        small = {"encoder": "mobilenetv3_small_050", "decoder_channels": 16}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, ClassVar, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from crossband.errors import BandError, OptionError
from crossband.pairs.base import Classes
from crossband.pairs.batch import Batch
from crossband.systems import create, make_training, network_options, system_class
from crossband.systems.base import NetworkSettings, Output, Phase, System
from crossband.systems.registry import registered
from crossband.weights import load_run, make_card, save_run
from crossband.words import BAND_COMBINATIONS, IGNORE_INDEX, Bands, Support

SIZES = ((1, 1), (1, 97), (33, 50), (64, 31), (96, 96))
"""Heights and widths: a single pixel, a line, one more and one less than a multiple of 32, a multiple."""
HALVES = (torch.bfloat16, torch.float16)


class SystemContract:
    """What every system must do.

    system: its name, or its class, which is then registered for the tests. small: options of the network that
    make it small and quick. loss: options of the loss that make its training short. classes: their number.
    """

    system: ClassVar[str | type[System]]
    small: ClassVar[Mapping[str, Any]] = {}
    loss: ClassVar[Mapping[str, Any]] = {}
    classes: ClassVar[int] = 5

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _listed(cls) -> Iterator[None]:
        with nullcontext() if isinstance(cls.system, str) else registered(cls.system):
            yield

    @pytest.fixture(scope="class")
    @classmethod
    def evaluated(cls, _listed: None) -> System:
        """The system in eval mode, with batch norms as after a training."""
        system = cls.make().eval()
        randomise_norms(system)
        return system

    @classmethod
    def phases_of(cls, system: System) -> list[Phase]:
        """The phases of the system's training, short."""
        return system.phases(make_training(cls.name_of(), **cls.loss) if cls.loss else None)

    @classmethod
    def make(cls, **options: Any) -> System:
        """The system, small, from a fixed random start, in training mode."""
        torch.manual_seed(0)
        name = cls.name_of()
        classes = cls.classes if system_class(name).segments else None
        return create(name, classes, **{**cls.small, **options})

    @classmethod
    def name_of(cls) -> str:
        """The system's name."""
        return cls.system if isinstance(cls.system, str) else cls.system.name

    # --- the contract of the output

    @pytest.mark.parametrize("size", SIZES, ids=str)
    def test_output_has_the_inputs_size_whatever_it_is(
        self, evaluated: System, size: tuple[int, int]
    ) -> None:
        for bands in evaluated.supports:
            with torch.no_grad():
                output: Output = evaluated(**given(bands, *images(*size)))
            assert output.logits is not None or output.fused is not None
            if output.logits is not None:
                assert output.logits.shape == (2, self.classes, *size)
                assert torch.isfinite(output.logits).all()
            if output.fused is not None:
                assert output.fused.shape == (2, 3, *size)
                assert 0 <= output.fused.min() <= output.fused.max() <= 1
            assert output.branches == {}
            assert output.features is None

    def test_padding_is_the_edge_repeated_and_cropped_away(self, evaluated: System) -> None:
        multiple = evaluated.multiple
        if multiple == 1:
            pytest.skip("this system pads nothing")
        visible, infrared = images(multiple * 2 - 3, multiple * 3 - 1)

        def pad(image: Tensor) -> Tensor:
            rows = torch.arange(multiple * 2).clamp(max=image.shape[2] - 1)
            columns = torch.arange(multiple * 3).clamp(max=image.shape[3] - 1)
            return image[:, :, rows][..., columns]

        for bands in evaluated.supports:
            with torch.no_grad():
                small = answer(evaluated(**given(bands, visible, infrared)))
                large = answer(evaluated(**given(bands, pad(visible), pad(infrared))))
            assert torch.equal(small, large[..., :-3, :-1])

    def test_each_pair_is_predicted_by_itself(self, evaluated: System) -> None:
        visible, infrared = images(33, 50, batch=3)
        for bands in evaluated.supports:
            with torch.no_grad():
                together = answer(evaluated(**given(bands, visible, infrared)))
                alone = answer(evaluated(**given(bands, visible[1:2], infrared[1:2])))
            assert torch.allclose(together[1:2], alone, atol=1e-5)

    def test_every_band_that_is_given_matters(self, evaluated: System) -> None:
        for bands in evaluated.supports:
            inputs = given(bands, *images(32, 48))
            with torch.no_grad():
                before = answer(evaluated(**inputs))
                for band, image in inputs.items():
                    after = answer(evaluated(**{**inputs, band: 1 - image}))
                    assert not torch.allclose(after, before, atol=1e-3)

    def test_training_mode_fills_branches_or_features(self) -> None:
        self.need_training()
        system = self.make()
        for bands in system.supports:
            inputs = given(bands, *images(40, 50))
            trained: Output = system.train()(**inputs)
            assert trained.features is not None or trained.branches
            assert all(logits.shape == (2, self.classes, 40, 50) for logits in trained.branches.values())
            plain: Output = system(**inputs, features=False)
            assert plain.features is None
            assert plain.branches == {}
            asked: Output = system.eval()(**inputs, features=True)
            assert type(asked.features) is type(trained.features)
            assert asked.branches.keys() == trained.branches.keys()

    @pytest.mark.parametrize("dtype", HALVES, ids=str)
    def test_half_precision_gives_nearly_the_same(self, evaluated: System, dtype: torch.dtype) -> None:
        self.need_training()
        for bands in evaluated.supports:
            inputs = given(bands, *images(32, 48))
            with torch.no_grad():
                full = answer(evaluated(**inputs))
                with torch.autocast("cpu", dtype=dtype):
                    half = answer(evaluated(**inputs))
            # Rounding to 8 (bfloat16) or 11 bits, over dozens of layers.
            assert (half.float() - full).abs().max() < 20 * torch.finfo(dtype).eps * full.abs().max()

    def test_channels_last_gives_the_same(self, evaluated: System) -> None:
        other = self.make().eval()
        other.load_state_dict(evaluated.state_dict())
        other.to(memory_format=torch.channels_last)
        for bands in evaluated.supports:
            inputs = given(bands, *images(32, 48))
            with torch.no_grad():
                wanted = answer(evaluated(**inputs))
                result = answer(
                    other(**{k: x.contiguous(memory_format=torch.channels_last) for k, x in inputs.items()})
                )
            assert torch.allclose(result, wanted, atol=1e-4)

    # --- bands

    def test_support_is_declared_in_the_words_of_the_contract(self, evaluated: System) -> None:
        assert set(evaluated.supports) <= set(BAND_COMBINATIONS)
        assert set(evaluated.supports.values()) <= set(get_args(Support))
        parts = {id(part) for part in evaluated.modules()}
        for bands in evaluated.supports:
            assert all(id(module) in parts for module in evaluated.deployed(bands))
        assert all(id(encoder) in parts for encoder in evaluated.encoders())

    def test_other_bands_are_refused_with_what_is_possible(self, evaluated: System) -> None:
        visible, infrared = images(20, 20)
        for bands in set(BAND_COMBINATIONS) - set(evaluated.supports):
            with pytest.raises(BandError) as caught:
                evaluated(**given(bands, visible, infrared))
            for able, support in evaluated.supports.items():
                assert f"{able} ({support})" in str(caught.value)
            with pytest.raises(BandError):
                evaluated.deployed(bands)
        with pytest.raises(BandError, match="no band was given"):
            evaluated()

    # --- training

    def test_every_phase_has_finite_named_losses_that_reach_what_it_trains(self) -> None:
        self.need_training()
        system = self.make()
        phases = self.phases_of(system)
        assert phases[-1].keeps is system
        assert len({phase.name for phase in phases}) == len(phases)
        for phase in phases:
            assert set(phase.validate) <= set(phase.keeps.supports)
            with resting(phase):
                phase.trained.train()
                terms = phase.loss(labelled(classes=self.classes))
                assert all(term.ndim == 0 and torch.isfinite(term) for term in terms.values())
                torch.stack(list(terms.values())).sum().backward()
                without = _unreached(phase.trained)
                if without:
                    # Behind a factor that starts at 0 nothing is reached before the factor has moved.
                    torch.optim.SGD(phase.trained.parameters(), lr=0.01).step()
                    torch.stack(list(phase.loss(labelled(classes=self.classes)).values())).sum().backward()
                    without &= _unreached(phase.trained)
            dead = {id(p) for module in system.dead() for p in module.parameters()}
            never = sorted(k for k in without if id(phase.trained.get_parameter(k)) not in dead)
            assert not never, f"no loss of phase {phase.name} reaches {', '.join(never)}"
            assert all(p.grad is None for module in phase.frozen for p in module.parameters())

    @pytest.mark.parametrize("dtype", HALVES, ids=str)
    def test_losses_are_finite_in_half_precision_on_odd_sizes_and_without_any_label(
        self, dtype: torch.dtype
    ) -> None:
        self.need_training()
        batch = labelled(32, 64, classes=self.classes)
        label = batch.label
        assert label is not None
        cut = Batch(*images(27, 41), label=label[..., :27, :41])
        unlabelled = Batch(batch.visible, batch.infrared, torch.full_like(label, IGNORE_INDEX))
        for phase in self.phases_of(self.make()):
            for odd in (cut, unlabelled):
                phase.trained.zero_grad()
                with resting(phase):
                    with torch.autocast("cpu", dtype=dtype):
                        terms = phase.loss(odd)
                    assert all(torch.isfinite(term) for term in terms.values())
                    torch.stack([term.float() for term in terms.values()]).sum().backward()
                gradients = [p.grad for p in phase.trained.parameters() if p.grad is not None]
                assert all(torch.isfinite(gradient).all() for gradient in gradients)

    def test_dead_weights_change_nothing(self, evaluated: System) -> None:
        saved = {key: value.clone() for key, value in evaluated.state_dict().items()}
        for bands in evaluated.supports:
            inputs = given(bands, *images(32, 48))
            with torch.no_grad():
                before = answer(evaluated(**inputs))
                for module in evaluated.dead():
                    for parameter in module.parameters():
                        parameter.fill_(torch.nan)
                after = answer(evaluated(**inputs))
            evaluated.load_state_dict(saved)
            assert torch.equal(after, before)

    # --- creation and storage

    def test_create_keeps_its_options(self) -> None:
        system = self.make()
        assert system.name == self.name_of() == system_class(self.name_of()).name
        assert system.training
        assert set(system.network_options) == set(network_options(system.name))
        again = create(system.name, system.classes, **system.network_options)
        assert again.settings == system.settings
        assert isinstance(system.settings, NetworkSettings)
        assert system.encoder_origin is None
        assert system.summary
        assert system.paper

    def test_create_is_a_function_of_its_options_and_the_seed(self) -> None:
        one, two = self.make().state_dict(), self.make().state_dict()
        assert all(torch.equal(one[key], two[key]) for key in one)

    def test_it_says_what_it_gives(self, evaluated: System) -> None:
        output: Output = evaluated(**given(next(iter(evaluated.supports)), *images(32, 48)))
        assert evaluated.segments == (output.logits is not None)
        assert evaluated.fuses == (output.fused is not None)

    def test_what_cannot_fuse_needs_classes(self) -> None:
        if system_class(self.name_of()).fuses:
            pytest.skip("this system can do without classes")
        with pytest.raises(OptionError, match="needs the number of classes"):
            create(self.name_of(), None, **self.small)

    def test_a_run_comes_back_as_it_was(self, evaluated: System, tmp_path: Path) -> None:
        self.need_training()
        classes = None
        if evaluated.classes is not None:
            names = tuple(f"class {number}" for number in range(evaluated.classes))
            classes = Classes(names=names, palette=tuple((n, n, n) for n in range(evaluated.classes)))
        save_run(tmp_path / "run", evaluated, make_card(evaluated, classes, "full-range", {}))
        torch.manual_seed(99)
        loaded, card = load_run(tmp_path / "run")
        assert type(loaded) is type(evaluated)
        assert not loaded.training
        assert card.bands == dict(evaluated.supports)
        for bands in evaluated.supports:
            inputs = given(bands, *images(40, 60))
            with torch.no_grad():
                assert torch.equal(answer(loaded(**inputs)), answer(evaluated(**inputs)))

    def need_training(self) -> None:
        """Skip a test of training, and of weights, for a system that has none."""
        if system_class(self.name_of()).trained_by is None:
            pytest.skip("this system needs no training")


def images(height: int, width: int, *, batch: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A visible (B, 3, H, W) and an infrared (B, 1, H, W) image in [0, 1] that have nothing in common."""
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.rand(batch, 3, height, width, generator=generator),
        torch.rand(batch, 1, height, width, generator=generator),
    )


def given(bands: Bands, visible: Tensor, infrared: Tensor) -> dict[str, Tensor]:
    """The images of a combination of bands, by the names that a system takes them under."""
    both = {"visible": visible, "infrared": infrared}
    return {band: image for band, image in both.items() if bands in ("both", band)}


def answer(output: Output) -> Tensor:
    """What a system is asked for: its logits, or the fused picture of one that only fuses."""
    result = output.fused if output.logits is None else output.logits
    assert result is not None
    return result


def labelled(height: int = 64, width: int = 96, *, classes: int = 5, batch: int = 2, seed: int = 0) -> Batch:
    """A batch whose label holds every class in blocks, and some ignored pixels."""
    visible, infrared = images(height, width, batch=batch, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randint(0, classes, (batch, height // 16, width // 16), generator=generator)
    label = blocks.repeat_interleave(16, dim=1).repeat_interleave(16, dim=2)
    label[:, :5, :7] = IGNORE_INDEX
    return Batch(visible=visible, infrared=infrared, label=label)


def _unreached(module: nn.Module) -> set[str]:
    """The names of the parameters that have no gradient but 0."""
    return {name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()}


@contextmanager
def resting(phase: Phase) -> Iterator[None]:
    """What a phase freezes, frozen; another phase may train it afterwards."""
    stopped = [p for module in phase.frozen for p in module.parameters() if p.requires_grad]
    for module in phase.frozen:
        module.eval().requires_grad_(False)
        module.zero_grad()
    yield
    for parameter in stopped:
        parameter.requires_grad_(True)


def randomise_norms(module: nn.Module, seed: int = 0) -> None:
    """Give every batch norm scales, shifts and statistics of its own, as after a long training."""
    generator = torch.Generator().manual_seed(seed)
    for norm in module.modules():
        if isinstance(norm, _BatchNorm):
            norm.weight.data.uniform_(0.5, 1.5, generator=generator)
            norm.bias.data.normal_(0, 0.1, generator=generator)
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.normal_(0, 0.1, generator=generator)
            norm.running_var.uniform_(0.5, 1.5, generator=generator)
