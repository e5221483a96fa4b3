"""The one Lightning module, which runs any phase of any system."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn

from crossband.errors import CrossbandError, OptionError, PairError
from crossband.metrics.segmentation import SegmentationMetric
from crossband.recipe import Recipe
from crossband.systems.base import EpochRow, Phase
from crossband.training.cpu_convolutions import CPUConvolutions
from crossband.training.curves import VALIDATION_LOSS, row_from_dict, row_to_dict
from crossband.words import BANDS, Bands

ELSEWHERE = ("frozen.", "keeps.")
"""Parts of a phase whose weights come from the phase that trained them."""


class PhaseModule(pl.LightningModule):
    """Optimises one phase and validates what it keeps.

    Everything random in an epoch starts from a seed of its own, and the learning rate is a function of the
    step: so a checkpoint needs no generator states, and a run that was killed and resumed ends with the same
    bits as one that was not.

    recipe: how it is optimised. classes: their number, or None for a system that only fuses.
    rows: one per finished epoch. compiled: whether what it optimises is compiled, which chooses kernels
    itself.
    after_epoch: called on every process when an epoch's row is complete. after_load: when a checkpoint was
    read, before anything is trained.
    """

    def __init__(
        self,
        phase: Phase,
        recipe: Recipe,
        classes: int | None,
        seed: int,
        *,
        channels_last: bool = False,
        compiled: bool = False,
        after_epoch: Callable[[PhaseModule], None] = lambda module: None,
        after_load: Callable[[PhaseModule], None] = lambda module: None,
    ):
        super().__init__()
        self.after_epoch = after_epoch
        self.after_load = after_load
        self.phase = phase
        self.recipe = recipe
        # Made once: a recipe checks itself whenever it is made, which is nothing for every step.
        self._recipes = {name: recipe.of_group(name) for name in ("", *phase.groups)}
        self.trained = phase.trained
        self.frozen = nn.ModuleList(phase.frozen)
        self._stopped = [parameter for parameter in self.frozen.parameters() if parameter.requires_grad]
        self.frozen.requires_grad_(False)
        # What is validated must lie on the device of what is trained, also where it is the larger of the two.
        inside = any(module is phase.keeps for module in phase.trained.modules())
        self.keeps = None if inside else phase.keeps
        self.seed = seed
        self.channels_last = channels_last
        self.compiled = compiled
        self.rows: list[EpochRow] = []
        self.classes = classes
        self.scores: dict[Bands, SegmentationMetric] = {}
        self._validation_losses: list[tuple[float, int]] = []
        self._sums: dict[str, Tensor] = {}
        self._steps = 0
        self._rate = 0.0
        self._started = 0.0
        # A checkpoint holds what is trained; frozen modules come from the phase that trained them.
        self.strict_loading = False
        if channels_last:
            self.to(memory_format=torch.channels_last)
        # Lightning fits a module in whatever mode it finds it.
        self.train()

    def train(self, mode: bool = True) -> PhaseModule:
        super().train(mode)
        self.frozen.eval()
        return self

    def configure_optimizers(self) -> torch.optim.Optimizer:
        groups = [group for name, members in self._members().items() for group in self._groups(name, members)]
        if self.recipe.optimizer == "sgd":
            return torch.optim.SGD(groups, lr=self.recipe.lr)
        adam = torch.optim.AdamW if self.recipe.optimizer == "adamw" else torch.optim.Adam
        return adam(groups, lr=self.recipe.lr)

    def _members(self) -> dict[str, list[nn.Parameter]]:
        """The trained parameters of each group of the phase, and under "" those of none."""
        owners = {id(p): name for name, module in self.phase.groups.items() for p in module.parameters()}
        members: dict[str, list[nn.Parameter]] = {}
        for parameter in self.trained.parameters():
            if parameter.requires_grad:
                members.setdefault(owners.get(id(parameter), ""), []).append(parameter)
        return members

    def _groups(self, name: str, members: list[nn.Parameter]) -> list[dict[str, Any]]:
        """A group's parameters as the optimiser takes them, those that do not decay apart."""
        recipe = self._recipes[name]
        settings: dict[str, Any] = {"name": name}
        if recipe.optimizer == "sgd":
            settings |= {"momentum": recipe.momentum, "nesterov": recipe.nesterov and recipe.momentum > 0}
        decayed = [p for p in members if recipe.decay_norms or p.ndim > 1]
        spared = [p for p in members if not recipe.decay_norms and p.ndim <= 1]
        return [
            {"params": chosen, "weight_decay": decay, **settings}
            for chosen, decay in ((decayed, recipe.weight_decay), (spared, 0.0))
            if chosen
        ]

    def on_train_epoch_start(self) -> None:
        if self.phase.prepare is not None:
            self.phase.prepare(self.current_epoch, self.recipe.epochs, self.rows)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        for name, recipe in self._recipes.items():
            if recipe.clip_norm:
                groups = [group["params"] for group in optimizer.param_groups if group["name"] == name]
                nn.utils.clip_grad_norm_(list(itertools.chain.from_iterable(groups)), recipe.clip_norm)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if self.channels_last:
            for band in BANDS:
                if (image := getattr(batch, band)) is not None:
                    setattr(batch, band, image.contiguous(memory_format=torch.channels_last))
        return batch

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0:
            self._sums, self._steps, self._started = {}, 0, time.monotonic()
            torch.manual_seed(_mix(self.seed, self.current_epoch, self.global_rank))
        steps_per_epoch = int(self.trainer.num_training_batches)
        step = self.current_epoch * steps_per_epoch + batch_idx
        self._rate = self.recipe.learning_rate(self.current_epoch, step, steps_per_epoch)
        for group in self.trainer.optimizers[0].param_groups:
            recipe = self._recipes[group["name"]]
            group["lr"] = recipe.learning_rate(self.current_epoch, step, steps_per_epoch)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if batch.label is None and self.phase.keeps.segments:
            raise PairError(f"pair {batch.names[0]!r} has no label to train on")
        try:
            terms = self.terms(batch)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise OptionError(
                f"phase {self.phase.name} has batch norms after a pooling of the whole image, which need two "
                "pairs or more in a batch; raise recipe.batch_size"
            ) from error
        total = torch.stack([term.float() for term in terms.values()]).sum()
        self._add({"loss": total, **terms})
        return total

    def terms(self, batch: Any) -> Mapping[str, Tensor]:
        """The named terms of the phase's loss of a batch, by the fastest convolutions that the device has."""
        if self.compiled or self.device.type != "cpu":
            return self.phase.loss(batch)
        with CPUConvolutions():
            return self.phase.loss(batch)

    def _add(self, terms: Mapping[str, Tensor]) -> None:
        self._steps += 1
        for name, value in terms.items():
            value = value.detach().float()
            self._sums[name] = self._sums[name] + value if name in self._sums else value

    def losses(self) -> dict[str, float]:
        """Mean of every loss term over the epoch so far."""
        # A batch that misses a band lacks some terms; they count as 0 there.
        return {name: (value / max(self._steps, 1)).item() for name, value in self._sums.items()}

    def on_validation_epoch_start(self) -> None:
        self.scores, self._validation_losses = {}, []
        if self.phase.keeps.segments and self.phase.chosen_by != "loss":
            assert self.classes is not None
            self.scores = {bands: SegmentationMetric(self.classes) for bands in self.phase.validate}

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        if self.phase.chosen_by == "loss":
            total = torch.stack([term.float() for term in self.phase.loss(batch).values()]).sum()
            self._validation_losses.append((total.item(), len(batch.names)))
        for bands, metric in self.scores.items():
            given = batch.only(bands)
            logits = self.phase.keeps(given.visible, given.infrared).logits
            metric.update(logits.argmax(dim=1), batch.label)

    def on_train_epoch_end(self) -> None:
        losses, validation_loss = self.losses(), None
        if self._validation_losses:
            pairs = sum(count for _, count in self._validation_losses)
            validation_loss = sum(loss * count for loss, count in self._validation_losses) / pairs
        broken = [name for name, value in losses.items() if not math.isfinite(value)]
        if validation_loss is not None and not math.isfinite(validation_loss):
            broken.append(VALIDATION_LOSS)
        if not broken and not _all_finite(self.trained):
            # By the last step, after which there was no loss to tell of it.
            broken.append("weights")
        if broken:
            raise CrossbandError(
                f"training diverged in epoch {self.current_epoch + 1} of phase {self.phase.name}: "
                f"{', '.join(broken)} became NaN or infinite; lower recipe.lr, add recipe.warmup_steps, "
                "or train in float32"
            )
        row = EpochRow(
            phase=self.phase.name,
            epoch=self.current_epoch + 1,
            lr=self._rate,
            losses=losses,
            scores={
                bands: metric.compute().protocols["present"].mean_iou for bands, metric in self.scores.items()
            },
            validation_loss=validation_loss,
            seconds=round(time.monotonic() - self._started, 3),
        )
        self.rows.append(row)
        if self.logger is not None:
            numbers = {name: x for name, x in row_to_dict(row).items() if name not in ("phase", "epoch")}
            self.logger.log_metrics(numbers, step=row.epoch)
        self.after_epoch(self)

    def checkpointed(self) -> set[str]:
        """The names of what a checkpoint of this phase holds."""
        return {name for name in self.state_dict() if not name.startswith(ELSEWHERE)}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {key: v for key, v in state.items() if not key.startswith(ELSEWHERE)}
        checkpoint["rows"] = [row_to_dict(row) for row in self.rows]

    def release(self) -> None:
        """Let what was frozen for this phase be trained again, on the CPU: another phase may do so."""
        self.to("cpu")
        for parameter in self._stopped:
            parameter.requires_grad_(True)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.rows = [row_from_dict(row) for row in checkpoint["rows"]]
        self.after_load(self)


def compile_trained(phase: Phase) -> None:
    """Have PyTorch compile what a phase trains, when it is first called: what it keeps may be more than its
    loss ever calls, as where a fusion is trained apart from the segmentation that follows."""
    parts = phase.trained
    for module in parts.values() if isinstance(parts, nn.ModuleDict) else [parts]:
        module.compile()


def validation_of(phase: Phase, row: EpochRow) -> float:
    """The number in a row that chooses the phase's checkpoint."""
    if phase.chosen_by == "loss":
        assert row.validation_loss is not None
        return row.validation_loss
    return row.scores[phase.validate[0]]


def _all_finite(module: nn.Module) -> bool:
    """Whether no weight and no statistic of a norm is NaN or infinite."""
    values = (value for value in module.state_dict().values() if value.is_floating_point())
    return all(bool(value.isfinite().all()) for value in values)


def _mix(*numbers: int) -> int:
    """One seed from several numbers, unlike that of any neighbouring ones."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
