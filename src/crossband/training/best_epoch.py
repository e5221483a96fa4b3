"""The weights of a phase's best epoch so far, beside its checkpoint."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open

from crossband.errors import WeightsError
from crossband.systems.base import EpochRow, Phase
from crossband.training.phase_module import validation_of
from crossband.weights import load_weights, save_weights


def best_row(phase: Phase, rows: list[EpochRow]) -> EpochRow:
    """The epoch with the best validation, the earliest of equals."""
    return (max if phase.chosen_by == "score" else min)(rows, key=lambda row: validation_of(phase, row))


class BestEpoch:
    """What a phase keeps, as it was after its best epoch.

    It is kept by that epoch's number, before the epoch's checkpoint is written, and what was best before is
    removed after that. So what a checkpoint calls the best is there whenever a training is cut off, and
    nothing of an epoch that was lost, which another device would not repeat digit by digit, passes for it.

    checkpoint: the phase's, in whose folder it lies.
    """

    def __init__(self, phase: Phase, checkpoint: Path):
        self.phase = phase
        self.checkpoint = checkpoint

    def keep(self, rows: list[EpochRow]) -> None:
        """Keep the weights as they are now, if the last epoch is the best."""
        if best_row(self.phase, rows) is rows[-1]:
            save_weights(self.phase.keeps, self._of(rows))

    def forget_others(self, rows: list[EpochRow]) -> None:
        """Remove what was best before; the checkpoint of these rows must be written."""
        for path in self.checkpoint.parent.glob(f"{self.phase.name}-best*.safetensors"):
            if path != self._of(rows):
                path.unlink(missing_ok=True)

    def check(self, rows: list[EpochRow]) -> None:
        """Raise WeightsError where the best of a checkpoint's epochs is not there, or damaged."""
        path = self._of(rows)
        # Earlier versions kept it without a number.
        earlier = path.with_name(f"{self.phase.name}-best.safetensors")
        if earlier.is_file() and not path.exists():
            earlier.rename(path)
        try:
            with safe_open(path, framework="pt"):
                pass
        except (OSError, SafetensorError) as error:
            state = "damaged" if path.exists() else "not there"
            raise WeightsError(
                f"{path}, the best epoch so far, is {state}; delete {self.checkpoint}, and the phase is "
                "trained anew"
            ) from error

    def load(self, rows: list[EpochRow]) -> None:
        """Take the best epoch's weights. Raises WeightsError as `check` does."""
        self.check(rows)
        load_weights(self.phase.keeps, self._of(rows))

    def _of(self, rows: list[EpochRow]) -> Path:
        return self.checkpoint.with_name(
            f"{self.phase.name}-best-{best_row(self.phase, rows).epoch}.safetensors"
        )
