"""What `crossband demo` does: scenes, four short trainings on the CPU, one table, one report.

The recipe is short, not tuned: its length is what fits into some minutes on two cores. Whatever the table
says is printed as it is.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from crossband.card_words import system_words
from crossband.errors import OptionError
from crossband.evaluation import ALL, Evaluation, evaluate
from crossband.loading import load
from crossband.locks import LOCK_NAME, is_vacant
from crossband.pairs.base import Classes, Pairs
from crossband.pairs.export import export_folder
from crossband.pairs.opening import open_pairs
from crossband.pairs.writing import write_text
from crossband.pictures import colour_labels, pair_pictures
from crossband.predictor import Predictor
from crossband.report import Page, learning_curves, per_class_iou_chart
from crossband.report.page import Cell
from crossband.systems.base import EpochRow
from crossband.text import text_table
from crossband.training.engine import read_curves, train
from crossband.training.options import TrainOptions
from crossband.words import Bands

MARK_NAME = "demo.txt"
"""In the folder of a demo, from its beginning on: what lies beside it may be replaced."""
TITLE = "Crossband demo: two bands, one band, and what is lost"

SHOWN_CONDITIONS = ("day", "night", "fog", "glare")


@dataclass(frozen=True)
class DemoSize:
    """How much the demo does. The default takes some minutes on two cores.

    train, test: scenes. height, width: of a scene in pixels. epochs: of each of the four trainings.
    """

    train: int = 256
    test: int = 120
    height: int = 120
    width: int = 160
    epochs: int = 5


@dataclass(frozen=True)
class Row:
    """One line of the result: a model on some bands."""

    label: str
    run: str
    bands: Bands
    note: str = ""


ROWS = (
    Row("DeepLabV3+, visible", "visible", "visible", "also CSK-Net's teacher"),
    Row("DeepLabV3+, infrared", "infrared", "infrared"),
    Row("CSK-Net firm, both bands", "csknet", "both"),
    Row("CSK-Net firm, infrared only", "csknet", "infrared"),
    Row("CSK-Net firm, visible only", "csknet", "visible", "fallback"),
    Row("AMDANet, both bands", "amdanet", "both", "also fuses"),
)

FUSIONS = {"fused: guided filter": "guided", "fused: AMDANet": "amdanet"}
"""The fused pictures of the report, and what makes them: a system that needs no training, or a run."""


def run_demo(out: Path, *, seed: int = 0, size: DemoSize | None = None, quiet: bool = False) -> Path:
    """Run the whole demo into a folder and return the path of its report.

    It computes on one thread: networks this small gain little from a second one, lose much where another
    program wants its core, and give the same numbers whatever the machine's cores.

    A folder that an earlier demo made is replaced; any other that is not empty raises OptionError, and so
    does one that runs of one's own were put into.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _run(out, seed, size or DemoSize(), quiet)
    finally:
        torch.set_num_threads(threads)


def _run(out: Path, seed: int, size: DemoSize, quiet: bool) -> Path:
    console = Console(quiet=quiet, highlight=False, soft_wrap=True, markup=False)
    started = time.monotonic()
    _clear(out)
    console.print(f"1/6  generating {size.train} + {size.test} street scenes in {out / 'scenes'}")
    export_folder(
        f"scenes,seed={seed},train={size.train},val=0,test={size.test},size={size.height}x{size.width}",
        out / "scenes",
    )
    data = f"folder:{out / 'scenes'}"
    for step, (run, options) in enumerate(trainings(out, data, size, seed).items(), start=2):
        console.print(f"{step}/6  training {run}: {system_words(options.system, options.variant)}")
        train(options, command=f"crossband demo --seed {seed}", quiet=quiet)
    console.print("6/6  evaluating on scenes that no training has seen")
    test, predictors, evaluations = scored(out)
    console.print(score_text(evaluations))
    report = out / "report.html"
    seconds = time.monotonic() - started
    _write_report(report, out, test, predictors, evaluations, seed, seconds)
    console.print(f"done in {seconds / 60:.1f} minutes; open {report}")
    return report


def scored(out: Path) -> tuple[Pairs, dict[str, Predictor], dict[str, Evaluation]]:
    """The test scenes of a demo's folder, and by run what was trained and how it does on them."""
    test = open_pairs(f"folder:{out / 'scenes'}", "test")
    runs = dict.fromkeys(row.run for row in ROWS)
    predictors = {run: load(out / "runs" / run, device="cpu") for run in runs}
    evaluations = {
        run: evaluate(
            predictor.system, test, bands=[row.bands for row in ROWS if row.run == run], batch_size=8
        )
        for run, predictor in predictors.items()
    }
    return test, predictors, evaluations


def _clear(out: Path) -> None:
    """Remove an earlier demo, and say that this folder is one's; OptionError for what is none."""
    if not is_vacant(out):
        ours = {"scenes", "runs", "report.html"}
        there = {entry.name for entry in out.iterdir()}
        runs = {entry.name for entry in (out / "runs").glob("*")}
        if not (
            _is_demo(out) and there <= {*ours, MARK_NAME, LOCK_NAME} and runs <= {row.run for row in ROWS}
        ):
            raise OptionError(
                f"{out} holds something else than an earlier demo; name another folder with --out"
            )
        for name in ours:
            path = out / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    write_text(
        out / MARK_NAME, "Made by crossband demo: the next one removes scenes, runs and report.html.\n"
    )


def _is_demo(out: Path) -> bool:
    """Whether a demo was made in a folder; those of earlier versions are known by their report alone."""
    report = out / "report.html"
    return (out / MARK_NAME).is_file() or (
        report.is_file() and TITLE in report.read_text(encoding="utf-8", errors="replace")
    )


def trainings(out: Path, data: str, size: DemoSize, seed: int) -> dict[str, TrainOptions]:
    """The four trainings: equal encoder, width, recipe and seed."""

    def options(run: str, system: str, **more: Any) -> TrainOptions:
        return TrainOptions(
            system=system,
            data=data,
            out=str(out / "runs" / run),
            encoder="mobilenetv2_050",
            network={"decoder_channels": 64, **more.pop("network", {})},
            recipe={
                "name": "quick",
                "epochs": size.epochs,
                "optimizer": "adamw",
                "lr": 2e-3,
                "weight_decay": 1e-2,
                "decay_norms": True,
            },
            accelerator="cpu",
            workers=0,
            seed=seed,
            **more,
        )

    return {
        "visible": options("visible", "deeplabv3plus", network={"band": "visible"}),
        "infrared": options("infrared", "deeplabv3plus", network={"band": "infrared"}),
        "csknet": options(
            "csknet", "csknet", variant="firm", reuse={"teacher": str(out / "runs" / "visible")}
        ),
        "amdanet": options("amdanet", "amdanet"),
    }


def _curve(rows: list[EpochRow], bands: Bands, *, loss: bool = True) -> list[dict[str, float]]:
    """The score on some bands and the loss, epoch by epoch."""
    return [
        {"epoch": row.epoch, "score": row.scores[bands], **({"loss": row.losses["loss"]} if loss else {})}
        for row in rows
    ]


def scores_of(evaluations: dict[str, Evaluation], row: Row) -> dict[str, float]:
    """Mean IoU (protocol present) of a row by condition, the whole first."""
    return {
        scope.condition: scope.scores.protocols["present"].mean_iou
        for scope in evaluations[row.run].scopes()
        if scope.result.bands == row.bands
    }


def score_text(evaluations: dict[str, Evaluation]) -> str:
    columns = list(scores_of(evaluations, ROWS[0]))
    rows = [
        [
            f"{row.label} (fallback)" if row.note == "fallback" else row.label,
            *(f"{100 * score:.1f}" for score in scores_of(evaluations, row).values()),
        ]
        for row in ROWS
    ]
    return f"\n{text_table(['mean IoU, %', *columns], rows)}\n"


def _write_report(
    path: Path,
    out: Path,
    test: Pairs,
    predictors: dict[str, Predictor],
    evaluations: dict[str, Evaluation],
    seed: int,
    seconds: float,
) -> None:
    classes = test.classes
    assert classes is not None
    page = Page(TITLE)
    page.paragraph(
        f"Four models were trained for a short time on generated street scenes (seed {seed}) and scored on "
        f"{len(test)} scenes that they had not seen. Scenes, training, scoring and this page took "
        f"{seconds / 60:.1f} minutes. The scenes are a test bed: their scores say nothing about real cameras."
    )
    page.heading("Mean IoU by condition")
    _add_score_table(page, evaluations)
    page.heading("IoU of every class")
    page.figure(
        per_class_iou_chart(
            {row.label: evaluations[row.run].results[row.bands].overall for row in ROWS},
            classes,
            {row.label: evaluations[row.run].class_intervals[row.bands] for row in ROWS},
        ),
        "IoU of every class over all test scenes. A line over a bar is the 95 % interval over scenes.",
        "Bar chart of the IoU of every class for each model.",
    )
    page.heading("Pictures")
    page.legend(classes)
    page.image_grid(
        ["visible", "infrared", *FUSIONS, "label", *(row.label for row in ROWS)],
        picture_rows(test, predictors, classes),
        groups=[3 + len(FUSIONS)],
    )
    page.paragraph(
        "A fused picture shows both bands at once, in the colours of the visible image. The guided filter "
        "needs no training. AMDANet learnt to fuse while it learnt the classes, and a few epochs are far too "
        "few for that: its pictures are still blurred and pale."
    )
    page.heading("Learning curves")
    page.paragraph(
        "Validation is on a tenth of the training scenes that was held out, and chose the weights."
    )
    visible, infrared, csknet, amdanet = (
        read_curves(out / "runs" / run) for run in ("visible", "infrared", "csknet", "amdanet")
    )
    page.figure(
        learning_curves(
            {
                "DeepLabV3+, visible": _curve(visible, "visible"),
                "DeepLabV3+, infrared": _curve(infrared, "infrared"),
                "CSK-Net firm, both bands": _curve(csknet, "both"),
                "CSK-Net firm, infrared only": _curve(csknet, "infrared", loss=False),
                "AMDANet, both bands": _curve(amdanet, "both"),
            },
            panels={"score": "validation mean IoU", "loss": "training loss (sum of a model's own terms)"},
        ),
        "Learning curves. The losses of different systems are sums of different terms and do not compare.",
        "Line charts of validation mean IoU and training loss over epochs.",
    )
    page.figure(
        learning_curves(
            {"CSK-Net firm": [{"epoch": row.epoch, **row.losses} for row in csknet]},
            panels={name: name.replace("_", " ") for name in csknet[0].losses if name != "loss"},
        ),
        "The terms of CSK-Net's loss.",
        "Line charts of each term of CSK-Net's loss over epochs.",
    )
    page.heading("How it was made")
    page.definitions(
        {
            "command": f"crossband demo --seed {seed}",
            "scenes": str(out / "scenes"),
            "runs": str(out / "runs"),
            "trained on": predictors["csknet"].card.training["hardware"],
            "encoder": f"{predictors['csknet'].card.network['encoder']}, random start",
        },
        code=True,
    )
    page.write(path)


def _add_score_table(page: Page, evaluations: dict[str, Evaluation]) -> None:
    columns = list(scores_of(evaluations, ROWS[0]))
    rows: list[list[str | Cell]] = []
    for row in ROWS:
        scores = scores_of(evaluations, row)
        head = Cell(row.label, badge=row.note) if row.note == "fallback" else Cell(row.label, note=row.note)
        rows.append([head, *(f"{100 * scores[name]:.1f}" for name in columns)])
    gain, infrared = _gains(evaluations)
    page.table(
        ["model and bands given", *("all" if name == ALL else name for name in columns)],
        rows,
        caption="Mean IoU in percent (protocol present) over all test scenes and by condition.",
    )
    page.paragraph(
        f"With both bands CSK-Net firm scores {gain:+z.1f} points against the better single-band model. "
        f"Given infrared only, it scores {infrared:+z.1f} points against the DeepLabV3+ that was "
        "trained on infrared, at the same cost in use and after a longer training, its teacher's counted. "
        "This is one seed and a short training: --seed shows how far the numbers move. Firm is a variant of "
        "ours for infrared alone, and not the paper's method. A fallback is a use that the system was not "
        "designed for."
    )


def _gains(evaluations: dict[str, Evaluation]) -> tuple[float, float]:
    """Points of CSK-Net over the better single band, and of its infrared branch over the baseline."""
    score = {(row.run, row.bands): 100 * scores_of(evaluations, row)[ALL] for row in ROWS}
    visible, infrared = score["visible", "visible"], score["infrared", "infrared"]
    return score["csknet", "both"] - max(visible, infrared), score["csknet", "infrared"] - infrared


def picture_rows(
    test: Pairs, predictors: dict[str, Predictor], classes: Classes
) -> list[tuple[str, list[np.ndarray | None]]]:
    """A row of pictures for the first test scene of each shown condition."""
    fusers = [predictors.get(name) or load(name, device="cpu") for name in FUSIONS.values()]
    rows = []
    for condition in SHOWN_CONDITIONS:
        index = next((i for i in range(len(test)) if test.condition(i) == condition), None)
        if index is None:
            continue
        pair = test[index]
        visible, infrared, label = pair_pictures(pair, classes.palette)
        pictures = [visible, infrared, *(fuser.predict(pair).fused for fuser in fusers), label]
        for row in ROWS:
            prediction = predictors[row.run].predict(pair.only(row.bands))
            assert prediction.labels is not None
            pictures.append(colour_labels(prediction.labels, classes.palette))
        rows.append((condition, pictures))
    return rows
