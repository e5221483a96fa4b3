"""What a person sees while a run trains: a live bar on a terminal, and a line per epoch anywhere."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from rich.console import Console
from rich.live import Live
from rich.text import Text

from crossband.card import Card
from crossband.card_words import kept_words
from crossband.training.phase_module import PhaseModule


class Progress:
    """Prints a run's progress: on a terminal one line that is redrawn, anywhere a line per epoch."""

    def __init__(self, quiet: bool):
        # No name of a folder, a class or a loss is markup.
        self.console = Console(quiet=quiet, highlight=False, soft_wrap=True, markup=False)
        self._live: Live | None = None
        self._started = time.monotonic()
        self._first_epoch = 0

    def callback(self) -> pl.Callback:
        """A Lightning callback that reports to this."""
        return _Watcher(self)

    def begin(self, trainer: pl.Trainer, module: PhaseModule) -> None:
        self._started, self._first_epoch = time.monotonic(), trainer.current_epoch
        if not trainer.is_global_zero:
            self.console.quiet = True
        pairs = trainer.datamodule  # type: ignore[attr-defined]
        held = f", {len(pairs.validation)} held out" if pairs.validation is not None else ""
        start = f" from epoch {trainer.current_epoch + 1}" if trainer.current_epoch else ""
        self.console.print(
            f"phase {module.phase.name}: {module.recipe.epochs} epochs{start}, {len(pairs.pairs)} pairs{held}"
        )
        recipe, steps = module.recipe, int(trainer.num_training_batches)
        warmup = recipe.warmup_steps + recipe.warmup_epochs * steps
        if warmup >= recipe.epochs * steps:
            self.console.print(
                f"note: the warm-up of {warmup} steps is as long as the whole phase ({recipe.epochs * steps} "
                "steps), so that the full rate is never reached; lower recipe.warmup_steps or warmup_epochs"
            )
        if self.console.is_terminal and not self.console.quiet:
            self._live = Live(console=self.console, transient=True, refresh_per_second=4)
            self._live.start()

    def step(self, trainer: pl.Trainer, module: PhaseModule, batch: int) -> None:
        if self._live is None:
            return
        steps = int(trainer.num_training_batches)
        done = trainer.current_epoch + (batch + 1) / steps
        self._live.update(
            Text(
                f"epoch {trainer.current_epoch + 1}/{module.recipe.epochs}  step {batch + 1}/{steps}  "
                f"{_losses(module.losses())}  ETA {self._eta(done, module.recipe.epochs)}"
            )
        )

    def epoch(self, module: PhaseModule) -> None:
        """One finished epoch, as a line that stays."""
        row = module.rows[-1]
        validation = "  ".join(f"mIoU {bands} {100 * score:.1f}" for bands, score in row.scores.items())
        if row.validation_loss is not None:
            validation = f"validation loss {row.validation_loss:.3f}"
        eta = self._eta(row.epoch, module.recipe.epochs)
        self.console.print(
            f"  epoch {row.epoch:>3}/{module.recipe.epochs}  {_losses(row.losses)}  {validation}  "
            f"{row.seconds:.0f} s  ETA {eta}"
        )

    def end(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def finished(self, folder: Path, card: Card, split: str | None) -> None:
        """What was kept of a run that is over, and what to do with it next.

        split: of its source, to score it on; None where there is none.
        """
        training = card.training
        for phase, choice in training["checkpoint"].items():
            self.say(f"kept of phase {phase}: {kept_words(choice)}")
        self.say(f"finished: {folder} ({training['seconds']:.0f} s of training)")
        command = ["crossband", "evaluate", str(folder)]
        if card.classes is None:
            command.append("--fusion")
        if split is None:
            needed = "pairs of both bands" if card.classes is None else "labelled pairs"
            self.say(
                f"next: {shlex.join(command)} --data SOURCE, on {needed} that it was not trained on: "
                f"{training['data']} has no split of them"
            )
            return
        command += ["--data", training["data"], *([] if split == "test" else ["--split", split])]
        self.say(f"next: {shlex.join(command)}")

    def say(self, line: str) -> None:
        """A line about the whole run."""
        self.console.print(line)

    def note(self, line: str) -> None:
        """A line about something that may be wrong, on standard error."""
        if not self.console.quiet:
            print(f"note: {line}", file=sys.stderr)

    def _eta(self, done: float, epochs: int) -> str:
        passed = done - self._first_epoch
        seconds = (time.monotonic() - self._started) / passed * (epochs - done) if passed > 0 else 0.0
        minutes, seconds = divmod(round(seconds), 60)
        hours, minutes = divmod(int(minutes), 60)
        return f"{hours}:{minutes:02}:{int(seconds):02}"


class _Watcher(pl.Callback):
    def __init__(self, progress: Progress):
        self.progress = progress

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.progress.begin(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.progress.step(trainer, pl_module, batch_idx)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.progress.end()

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        self.progress.end()


def _losses(losses: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.3f}" for name, value in losses.items())
