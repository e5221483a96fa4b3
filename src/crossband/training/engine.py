"""A training run: its folder, its phases one after another, checkpoints, and what is left when it ends.

While it runs, a run folder holds ``config.yaml``, ``command.txt``, ``curves.csv``, the finished phases'
weights in ``phases/`` and the last checkpoint in ``checkpoints/``. When it ends, ``weights.safetensors``
and ``card.json`` are there, and the checkpoints are gone.
"""

from __future__ import annotations

import math
import platform
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from crossband.card import CARD_NAME
from crossband.errors import OptionError, PairError, WeightsError
from crossband.pairs.band_summary import summarise_pairs
from crossband.pairs.suspicions import suspicions
from crossband.pairs.writing import replacing, write_text
from crossband.systems import create
from crossband.systems.base import EpochRow, Phase, System
from crossband.systems.creation import earlier_options
from crossband.terms import kept_licence
from crossband.text import counted
from crossband.training.best_epoch import BestEpoch, best_row
from crossband.training.curves import CURVES_NAME, read_curves, write_curves
from crossband.training.fitting import Loaders, QuietLightning, fit, is_main_process, make_trainer
from crossband.training.loggers import check_logger
from crossband.training.monitoring import check_can_be_monitored, train_monitor
from crossband.training.options import TrainOptions
from crossband.training.phase_module import PhaseModule, compile_trained, validation_of
from crossband.training.progress import Progress
from crossband.training.resolving import resolve
from crossband.training.robust import can_drop_bands, runs_on_either_band
from crossband.training.run_folder import check_folder, check_resumable, clear, only_writer
from crossband.training.taking_over import Taken, check_start_is_kept, with_earlier
from crossband.training.training_pairs import (
    check_can_validate,
    keep_state,
    open_training_pairs,
    split_to_score,
)
from crossband.weights import load_weights, make_card, save_run, save_weights

AfterEpoch = Callable[[EpochRow], None]
"""What is done with every epoch's row of the learning curves, on every process."""


def train(
    options: TrainOptions,
    *,
    command: str | None = None,
    quiet: bool = False,
    after_epoch: AfterEpoch | None = None,
) -> Path:
    """Train a system and return its finished run folder.

    command: the command line that asked for it, to keep in the folder. quiet: print nothing.
    after_epoch: called with each epoch's row when the epoch is over and its weights, checkpoint and curves
    are written; what it raises ends the run, which can be resumed from there.

    A run that fails before its first epoch has ended leaves nothing behind; one that fails later, or is
    killed, can be resumed.

    Raises OptionError if the folder exists already or an option does not fit, PairError for pairs that
    cannot be used, and CrossbandError if the training diverges.
    """
    folder = Path(options.out)
    options.check_together()
    if is_main_process():
        check_folder(folder)
    run = _Run(options, quiet, after_epoch)
    with only_writer(folder):
        if is_main_process():
            # Again, now that nobody else can write there.
            check_folder(folder)
        try:
            run.write_options(command)
            return run.complete()
        except Exception:
            if is_main_process() and not (folder / CURVES_NAME).exists():
                clear(folder)
            raise


def resume(folder: Path | str, *, quiet: bool = False, after_epoch: AfterEpoch | None = None) -> Path:
    """Go on with a run that was interrupted, from its last finished epoch. after_epoch: as in `train`.

    On a CPU the result is bit for bit that of a run that was not interrupted. A finished run is left as it
    is. Raises OptionError if the folder holds no run, and PairError if its pairs have changed since it began.
    """
    folder = Path(folder)
    if (folder / CARD_NAME).exists():
        Progress(quiet).say(f"{folder} holds a finished run; there is nothing left to do")
        return folder
    check_resumable(folder)
    with only_writer(folder):
        options = TrainOptions.from_yaml(folder / "config.yaml")
        options.out = str(folder)
        network, loss = earlier_options(options.system)
        options.network, options.loss = {**network, **options.network}, {**loss, **options.loss}
        return _Run(options, quiet, after_epoch).complete()


class _Run:
    """One training run; exists for as long as `train` or `resume` does."""

    def __init__(self, options: TrainOptions, quiet: bool, after_epoch: AfterEpoch | None = None):
        check_logger(options.logger)
        self.options = options
        self.after_epoch = after_epoch
        self.resolved = resolve(options)
        self.folder = Path(options.out)
        self.progress = Progress(quiet)
        self.pairs, self.validation = open_training_pairs(options)
        self.summary = summarise_pairs(self.pairs)
        for suspicion in suspicions(
            self.summary, scaling=self.pairs.scaling, false_colour=self.pairs.false_colour
        ):
            self.progress.note(str(suspicion))
        self.rows: list[EpochRow] = []
        torch.manual_seed(options.seed)
        self.classes = self.pairs.classes
        self.system: System = create(
            options.system,
            classes=None if self.classes is None else len(self.classes),
            **self.resolved.network,
        )
        self.licence = kept_licence(self.system.network_options, self.system.encoder_origin)
        self.phases = self.system.phases(self.resolved.training)
        self.resolved = replace(self.resolved, drops_bands=can_drop_bands(self.phases, self.pairs))
        self.augmentation = self.resolved.augmentation()
        self.recipes = {phase.name: self.resolved.recipe(phase.name) for phase in self.phases}
        self._prepare_phases()
        if options.band_monitor:
            check_can_be_monitored(self.system, self.pairs, self.augmentation.scale)
        self.reuse = with_earlier(self.options.reuse, self.phases)
        self.origins: list[dict[str, Any]] = []
        self._load_runs()

    def _prepare_phases(self) -> None:
        names = [phase.name for phase in self.phases]
        for setting, given in (("phases", self.options.phases), ("reuse", self.options.reuse)):
            unknown = sorted(set(given) - set(names))
            if unknown:
                raise OptionError(
                    f"{setting}: {self.options.system} has no phase {unknown[0]!r}; it has {', '.join(names)}"
                )
        for phase in self.phases:
            unknown = sorted(set(self.recipes[phase.name].groups) - set(phase.groups))
            if unknown:
                there = ", ".join(phase.groups) or "none"
                raise OptionError(
                    f"recipe.groups: phase {phase.name} of {self.options.system} has no group "
                    f"{unknown[0]!r}; it has {there}"
                )
            reads = phase.reads or phase.validate[0]
            needed = {"visible", "infrared"} if reads == "both" else {reads}
            missing = sorted(needed - set(self.pairs.bands))
            if missing:
                raise PairError(
                    f"phase {phase.name} of {self.options.system} trains on {' and '.join(sorted(needed))}, "
                    f"but {self.pairs.source} has no {missing[0]} images"
                )
        if self.validation is not None:
            check_can_validate(self.phases, self.validation)

        if self.augmentation.band_dropout and not any(map(runs_on_either_band, self.phases)):
            raise OptionError(
                f"augmentation.band_dropout: {self.options.system} cannot do without a band; set it to 0"
            )

    def _load_runs(self) -> None:
        """Load what comes from other runs, before anything is written or trained."""
        taken: list[Taken] = []
        if (start := self.options.start_from) is not None:
            check_start_is_kept(self.system, self.phases, self.reuse)
            taken.append(Taken(self.system, "start_from", start, "this run trains"))
        for phase in self.phases:
            if phase.name in self.reuse:
                need = f"phase {phase.name} makes"
                taken.append(Taken(phase.keeps, "reuse", self.reuse[phase.name], need))
        for each in taken:
            self.origins += [origin for origin in each.load(self.pairs) if origin not in self.origins]

    def write_options(self, command: str | None) -> None:
        """Make the folder, and keep in it what a resume needs."""
        if not is_main_process():
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OptionError(
                f"cannot make run folder {self.folder}: {error.strerror}; choose another one"
            ) from error
        write_text(self.folder / "config.yaml", self.resolved.named().to_yaml())
        if command is not None:
            write_text(self.folder / "command.txt", command + "\n")

    def complete(self) -> Path:
        if is_main_process():
            keep_state(self.folder / "checkpoints", self.pairs, self.validation)
        try:
            return self._complete()
        except KeyboardInterrupt as interruption:
            interruption.add_note(f"go on with `crossband train --resume {self.folder}`")
            raise

    def _complete(self) -> Path:
        chosen = {phase.name: self._complete_phase(phase) for phase in self.phases}
        if is_main_process():
            card = make_card(
                self.system,
                self.classes,
                str(self.pairs.scaling),
                self._history(chosen),
                variant=self.options.variant,
                loss=asdict(self.resolved.training),
            )
            if self.options.band_monitor:
                self.progress.say("training the band monitor")
                card.monitor = train_monitor(self.system, self.pairs, self.augmentation.scale, self.options)
            save_run(self.folder, self.system, card)
            self._tidy()
            self.progress.finished(self.folder, card, split_to_score(self.options, self.system.supports))
        return self.folder

    def _tidy(self) -> None:
        """Remove what only a resume needs, and what ``weights.safetensors`` holds as well."""
        shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)
        for phase in self.phases:
            if phase.keeps is self.system:
                self._finished(phase).unlink(missing_ok=True)
        folder = self.folder / "phases"
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()

    def _complete_phase(self, phase: Phase) -> dict[str, Any]:
        """Take the phase's weights from elsewhere, from before, or train it. Returns what chose them."""
        if phase.name in self.reuse:
            return {"reused": self.reuse[phase.name]}
        finished = self._finished(phase)
        if finished.is_file():
            self._load_finished(phase)
            self.rows += [row for row in read_curves(self.folder) if row.phase == phase.name]
        else:
            self._train_phase(phase)
        return self._choice(phase)

    def _load_finished(self, phase: Phase) -> None:
        try:
            load_weights(phase.keeps, self._finished(phase))
        except WeightsError as error:
            raise WeightsError(f"{error}; delete it, and the phase goes on from its checkpoint") from error

    def _train_phase(self, phase: Phase) -> None:
        recipe = self.recipes[phase.name]
        module = PhaseModule(
            phase,
            recipe,
            None if self.classes is None else len(self.classes),
            self.options.seed,
            channels_last=self.options.channels_last,
            compiled=self.options.compile,
            after_epoch=self._keep_epoch,
            after_load=self._check_best,
        )
        if self.options.compile:
            compile_trained(phase)
        checkpoint = self._checkpoint(phase)
        augmentation = self.resolved.augmentation(phase.name)
        if not runs_on_either_band(phase):
            augmentation = replace(augmentation, band_dropout=0.0)
        loaders = Loaders(self.pairs, self.validation, augmentation, self.options, recipe)
        with QuietLightning():
            trainer = make_trainer(self.options, recipe, phase.name, self.progress.callback())
            try:
                fit(trainer, module, loaders, checkpoint if checkpoint.is_file() else None)
            except OSError as error:
                # What Lightning and TensorBoard write by themselves; our own files are named.
                raise OptionError(
                    f"cannot train in {self.folder}: {error.strerror or error}; make room there, or choose "
                    "another place"
                ) from error
        module.release()
        phase.keeps.to(memory_format=torch.contiguous_format)
        self.rows += module.rows
        if is_main_process():
            # Again: a run that was cut off between the last checkpoint and its curves lacks a row.
            write_curves(self.folder, self.rows)
            if self._chooses(phase):
                self._best(phase).load(module.rows)
            save_weights(phase.keeps, self._finished(phase))
        trainer.strategy.barrier()
        if not is_main_process():
            load_weights(phase.keeps, self._finished(phase))

    def _keep_epoch(self, module: PhaseModule) -> None:
        """Keep the weights if they are the best so far, then the checkpoint, then the curves; then say so."""
        phase, trainer = module.phase, module.trainer
        if self._chooses(phase):
            assert self.validation is not None
            if phase.chosen_by == "score" and math.isnan(validation_of(phase, module.rows[-1])):
                raise PairError(
                    f"no label of {self.validation.source}, split {self.validation.split}, has a pixel that "
                    "counts, so no score chooses the epoch; validate on other pairs (validation, hold_out), "
                    "or set select to last"
                )
            if trainer.is_global_zero:
                self._best(phase).keep(module.rows)
        checkpoint = self._checkpoint(phase)
        # Every process has a part in it, and the first one writes.
        with replacing(checkpoint) if trainer.is_global_zero else nullcontext(checkpoint) as temporary:
            trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            if self._chooses(phase):
                self._best(phase).forget_others(module.rows)
            write_curves(self.folder, [*self.rows, *module.rows])
            self.progress.epoch(module)
        if self.after_epoch is not None:
            self.after_epoch(module.rows[-1])

    def _history(self, chosen: dict[str, Any]) -> dict[str, Any]:
        """The card's account of the training."""
        options = self.options
        return {
            "data": self.pairs.source,
            "split": self.pairs.split,
            "pairs": len(self.pairs),
            "trained_on": self.summary.to_dict(),
            "validation": None
            if self.validation is None
            else {"split": self.validation.split, "pairs": len(self.validation)},
            "checkpoint": chosen,
            "start_from": options.start_from,
            "origins": self.origins,
            **self.licence,
            "recipes": {
                name: asdict(recipe) for name, recipe in self.recipes.items() if name not in self.reuse
            },
            "robust": options.robust,
            "augmentation": asdict(self.augmentation),
            "phase_augmentations": {
                phase.name: asdict(of_phase)
                for phase in self.phases
                if (of_phase := self.resolved.augmentation(phase.name)) != self.augmentation
            },
            "seed": options.seed,
            "deterministic": options.deterministic,
            "precision": options.precision,
            "devices": options.devices,
            "hardware": _hardware(options.accelerator),
            "seconds": round(sum(row.seconds for row in self.rows), 1),
        }

    def _choice(self, phase: Phase) -> dict[str, Any]:
        """What chose the weights of a trained phase, in the card's words."""
        rows = [row for row in self.rows if row.phase == phase.name]
        if not self._chooses(phase):
            return {"chosen_by": "last epoch", "epoch": rows[-1].epoch}
        assert self.validation is not None
        best = best_row(phase, rows)
        if phase.chosen_by == "score":
            chosen_by = f"best mean IoU (protocol present, {phase.validate[0]}) on {self.validation.split}"
            score = {"mean_iou": validation_of(phase, best)}
        else:
            chosen_by = f"lowest loss on {self.validation.split}"
            score = {"loss": validation_of(phase, best)}
        return {"chosen_by": chosen_by, "epoch": best.epoch, **score}

    def _finished(self, phase: Phase) -> Path:
        return self.folder / "phases" / f"{phase.name}.safetensors"

    def _best(self, phase: Phase) -> BestEpoch:
        return BestEpoch(phase, self._checkpoint(phase))

    def _check_best(self, module: PhaseModule) -> None:
        if self._chooses(module.phase) and is_main_process():
            self._best(module.phase).check(module.rows)

    def _chooses(self, phase: Phase) -> bool:
        """Whether a phase ends with the weights of its best epoch."""
        return self.options.select == "best" and self.validation is not None and phase.chosen_by != "last"

    def _checkpoint(self, phase: Phase) -> Path:
        return self.folder / "checkpoints" / f"{phase.name}.ckpt"


def _hardware(accelerator: str) -> str:
    if accelerator != "cpu" and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    # The kernels of another instruction set add in another order, and give other weights.
    kernels = torch.backends.cpu.get_cpu_capability()
    return f"{platform.machine()} CPU ({kernels}), {counted(torch.get_num_threads(), 'thread')}"
