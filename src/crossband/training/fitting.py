"""One phase through Lightning: its trainer, its loaders, and an end to it that a user understands."""

from __future__ import annotations

import logging
import os
import signal
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from crossband.errors import CrossbandError, OptionError, WeightsError, first_line, quoted
from crossband.pairs.augmentation import Augmentation
from crossband.pairs.base import Pairs
from crossband.pairs.loading import evaluation_loader, training_loader
from crossband.recipe import Recipe
from crossband.training.loggers import end_logger, make_logger
from crossband.training.options import TrainOptions
from crossband.training.phase_module import PhaseModule

_PRECISION = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}

# Of a checkpoint, beside the network: Lightning passes over those of these that are empty.
_RESUMED = ("optimizer_states", "loops", "global_step", "pytorch-lightning_version")


def is_main_process() -> bool:
    """Whether this is the first process of the run, which alone writes. Known before a trainer exists."""
    return getattr(rank_zero_only, "rank", 0) == 0


def make_trainer(options: TrainOptions, recipe: Recipe, phase: str, callback: pl.Callback) -> pl.Trainer:
    """A trainer that leaves checkpoints and printing to us.

    Raises OptionError for devices that are not there.
    """
    try:
        trainer = pl.Trainer(
            max_epochs=recipe.epochs,
            accelerator=options.accelerator,
            devices=options.devices,
            # smp's EfficientNets hold a classifier stage that segmentation never calls.
            strategy="ddp_find_unused_parameters_true" if options.devices > 1 else "auto",
            precision=_PRECISION[options.precision],  # type: ignore[arg-type]
            deterministic=options.deterministic,
            callbacks=[callback],
            logger=make_logger(options.logger, Path(options.out), phase),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            default_root_dir=options.out,
        )
    except MisconfigurationException as error:
        reason = " ".join(str(error).split())
        raise OptionError(
            f"cannot train on accelerator {options.accelerator} with {options.devices} devices: {reason}"
        ) from error
    if options.precision == "float16" and trainer.strategy.root_device.type == "cpu":
        raise OptionError("a CPU cannot train in float16; use precision bfloat16 or float32")
    return trainer


def fit(trainer: pl.Trainer, module: PhaseModule, loaders: Loaders, checkpoint: Path | None) -> None:
    """Run a phase, from a checkpoint if there is one.

    Raises WeightsError for a checkpoint that is damaged or of another network, CrossbandError when the
    device's memory is used up, and KeyboardInterrupt when it is interrupted (Lightning would end the whole
    program).
    """
    if checkpoint is not None:
        check_checkpoint(checkpoint, module)
    handler = signal.getsignal(signal.SIGINT)
    try:
        # weights_only: a checkpoint is read without unpickling anything but tensors and plain values.
        trainer.fit(module, datamodule=loaders, ckpt_path=checkpoint, weights_only=True)
        end_logger(trainer.logger)
    except SystemExit as exit:
        if not isinstance(exit.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, handler)
        # The same one again, which knows its signal.
        raise exit.__context__ from None
    except torch.OutOfMemoryError as error:
        raise CrossbandError(
            f"phase {module.phase.name} does not fit the device's memory; lower recipe.batch_size, crop the "
            "images with augmentation.crop, or train in bfloat16"
        ) from error


def check_checkpoint(path: Path, module: PhaseModule) -> None:
    """Raise WeightsError for a file that is no whole checkpoint of a phase.

    Lightning takes what it finds in one and passes over what is not there; so what is there must be all.
    """
    mend = "delete it, and the phase is trained anew"
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        names, epochs = set(stored["state_dict"]), len(stored["rows"])
        lacking = [key for key in _RESUMED if not stored.get(key)]
        # Always empty, since a phase sets its rate by itself; but Lightning asks for it.
        lacking += [] if "lr_schedulers" in stored else ["lr_schedulers"]
        lacking += [] if "fit_loop" in (stored.get("loops") or {}) else ["loops.fit_loop"]
        shapes = {name: tuple(stored["state_dict"][name].shape) for name in names}
    except Exception as error:  # whatever PyTorch's reader, or what it read, comes to
        # PyTorch's own words would tell the user to load the file without care.
        raise WeightsError(f"{path} is damaged or no checkpoint ({type(error).__name__}); {mend}") from error
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    expected = {name: wanted[name] for name in module.checkpointed()}
    if shapes != expected:
        differing = sorted(set(shapes.items()) ^ set(expected.items()))[0][0]
        raise WeightsError(
            f"{path} is not of this phase's network (they differ in {quoted(differing)}); {mend}"
        )
    if lacking:
        raise WeightsError(f"{path} lacks {quoted(lacking[0])}, without which nothing goes on; {mend}")
    if reason := _unlike_optimizer(stored["optimizer_states"], module):
        raise WeightsError(f"{path} has no whole state of this phase's optimiser ({reason}); {mend}")
    if epochs != stored.get("epoch", -1) + 1:
        raise WeightsError(f"{path} has the curves of {epochs} epochs but is of another one; {mend}")


def _unlike_optimizer(states: Any, module: PhaseModule) -> str | None:
    """How the stored states of optimisers differ from what a phase's one takes and has after a step, if so.

    PyTorch takes what it finds, and begins anew with a parameter's moments where there are none.
    """
    wanted = module.configure_optimizers()
    try:
        (state,) = states
        wanted.load_state_dict(state)
        moments = [dict(wanted.state[p]) for group in wanted.param_groups for p in group["params"]]
        parameters = [p for group in wanted.param_groups for p in group["params"]]
    except Exception as error:  # whatever PyTorch makes of what it read
        return first_line(error)
    # A parameter that no loss reaches has no moments, and plain descent has none at all.
    kinds = {frozenset(moment) for moment in moments if moment}
    plain = not any(group.get("momentum", True) for group in wanted.param_groups)
    if len(kinds) != 1 and not (plain and not kinds):
        return "its parameters' moments are of several kinds" if kinds else "it has no moments"
    for parameter, moment in zip(parameters, moments, strict=True):
        shapes = {value.shape for value in moment.values() if isinstance(value, torch.Tensor) and value.ndim}
        if shapes - {parameter.shape}:
            return "its moments have other shapes than its parameters"
    return None


class Loaders(pl.LightningDataModule):
    """The loaders of a phase, made once the process knows its rank.

    Every process validates on all of the validation pairs; what the first one finds is what counts.
    """

    def __init__(
        self,
        pairs: Pairs,
        validation: Pairs | None,
        augmentation: Augmentation,
        options: TrainOptions,
        recipe: Recipe,
    ):
        super().__init__()
        self.pairs = pairs
        self.validation = validation
        self.augmentation = augmentation
        self.seed = options.seed
        self.recipe = recipe
        self.workers = min(8, (os.cpu_count() or 1) - 1) if options.workers is None else options.workers

    def train_dataloader(self) -> Any:
        trainer = self.trainer
        assert trainer is not None
        return training_loader(
            self.pairs,
            self.augmentation,
            batch_size=self.recipe.batch_size,
            seed=self.seed,
            workers=self.workers,
            epochs=self.recipe.epochs,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
            pin_memory=trainer.strategy.root_device.type == "cuda",
        )

    def val_dataloader(self) -> Any:
        if self.validation is None:
            return []
        return evaluation_loader(self.validation, workers=self.workers)


class QuietLightning(warnings.catch_warnings):
    """Keep Lightning's advertisements and hints, which our users can do nothing about, to itself."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings(
            "ignore", message=".*(num_workers|litlogger|LeafSpec|isinstance\\(treespec).*"
        )
        self._loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
        self._levels = [logger.level for logger in self._loggers]
        for logger in self._loggers:
            logger.setLevel(logging.ERROR)
        return entered

    def __exit__(self, *details: object) -> None:
        for logger, level in zip(self._loggers, self._levels, strict=True):
            logger.setLevel(level)
        super().__exit__(*details)  # type: ignore[arg-type]
