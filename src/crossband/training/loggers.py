"""Where a training's curves go beside ``curves.csv``: TensorBoard, Weights & Biases or MLflow, by Lightning's
own loggers."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl

from crossband.errors import OptionError, first_line
from crossband.words import Logger

_PROJECT = "crossband"
_INSTALL = {
    "tensorboard": "pip install 'crossband[track]'",
    "wandb": "pip install wandb",
    "mlflow": "pip install mlflow",
}


def check_logger(logger: Logger | None) -> None:
    """Raise OptionError for a logger whose package is not installed."""
    if logger in _INSTALL and find_spec(logger) is None:
        raise OptionError(
            f"logger {logger}: the package {logger} is not installed; {_INSTALL[logger]}, or choose another "
            "logger or none"
        )


def make_logger(logger: Logger | None, folder: Path, phase: str) -> Any | Literal[False]:
    """Lightning's logger of a phase, False for none. logger: None takes TensorBoard where it is installed.

    folder: the run folder, which TensorBoard's files go into, MLflow's database unless
    ``MLFLOW_TRACKING_URI`` says otherwise, and what Weights & Biases keeps on this machine.

    Raises OptionError for a logger whose package is not installed, or that cannot be begun with.
    """
    check_logger(logger)
    if logger == "none" or (logger is None and find_spec("tensorboard") is None):
        return False
    try:
        return _made(logger, folder, phase)
    except Exception as error:  # whatever the package makes of its settings and its server
        raise OptionError(
            f"logger {logger}: it cannot be begun with ({first_line(error)}); see its own documentation, or "
            "choose another logger or none"
        ) from error


def end_logger(logger: Any) -> None:
    """Close what a phase's logger keeps open, so that the next phase begins one of its own.

    Lightning leaves a run of Weights & Biases open, and takes an open one for the next.
    """
    if isinstance(logger, pl.loggers.WandbLogger):
        logger.experiment.finish()


def _made(logger: Logger | None, folder: Path, phase: str) -> Any:
    if logger == "wandb":
        return pl.loggers.WandbLogger(
            project=_PROJECT, name=phase, group=folder.resolve().name, save_dir=str(folder)
        )
    if logger == "mlflow":
        return pl.loggers.MLFlowLogger(
            experiment_name=_PROJECT,
            run_name=f"{folder.resolve().name} {phase}",
            # MLflow refuses plain files as of 3.17: a database of its own for each run.
            tracking_uri=os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{folder.resolve()}/mlflow.db"),
        )
    return pl.loggers.TensorBoardLogger(str(folder), name="tensorboard", version=phase)
