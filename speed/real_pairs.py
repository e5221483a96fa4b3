"""Train and score the systems on real pairs and on scenes, over seeds: what docs/results/real-pairs.md tells.

    python speed/real_pairs.py cwfid --pairs PATH --weights tf_efficientnet_lite0.safetensors

PATH holds ``deadtree`` and ``cwfid`` as folders of pairs; ``scenes`` are generated and need none. What is
finished is not trained again, so the script may be stopped and started, and told with ``--runs`` to train
only some of the systems. One thread by default: start one process per dataset.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch

from crossband.card import CARD_NAME
from crossband.evaluation import evaluate, evaluate_fusion
from crossband.evaluation.pair_counts import read_pair_counts, write_pair_counts
from crossband.loading import load
from crossband.metrics.resampling import runs_interval
from crossband.pairs.base import Pair, Pairs
from crossband.pairs.opening import open_pairs
from crossband.pairs.writing import write_text
from crossband.pictures import colour_labels, pair_pictures, to_uint8
from crossband.predictor import Predictor
from crossband.recalibration import recalibrate_run
from crossband.report import Page
from crossband.robustness import overexpose, overexposed
from crossband.training.engine import resume, train
from crossband.training.options import TrainOptions
from crossband.words import BANDS_ALONE, Bands

ENCODER = "tf_efficientnet_lite0"
STOPS = 4.0
"""Of over-exposure: 16 times the light."""


@dataclass(frozen=True)
class Dataset:
    """source: as on the command line, with {pairs} for the folder of all real pairs."""

    source: str
    test_split: str
    epochs: int
    crop: tuple[int, int] | None


DATASETS = {
    "deadtree": Dataset("folder:{pairs}/deadtree", "val", 4, (192, 192)),
    "cwfid": Dataset("folder:{pairs}/cwfid", "test", 30, (192, 192)),
    "scenes": Dataset("scenes,seed=0,train=320,val=0,test=100,size=120x160", "test", 4, None),
}


@dataclass(frozen=True)
class Run:
    """A training: a system, options of its network and loss, and whether its teacher is the run "visible"."""

    system: str
    network: Mapping[str, Any] = field(default_factory=dict)
    loss: Mapping[str, Any] = field(default_factory=dict)
    taught: bool = False


# The only ways when the tables were made; the defaults are others now.
EXCHANGED = {"infrared_supervision": "exchanged"}
PUBLISHED = {"alignment_start": "published"}
RUNS = {
    "visible": Run("deeplabv3plus"),
    "infrared": Run("deeplabv3plus", {"band": "infrared"}),
    "csknet": Run("csknet", loss=EXCHANGED, taught=True),
    "csknet-no-exchange": Run("csknet", {"exchange": False}, EXCHANGED, taught=True),
    "amdanet": Run("amdanet", PUBLISHED),
    "amdanet-gated": Run("amdanet", {**PUBLISHED, "reliability_gate": True, "reconstruction": True}),
}
RECALIBRATED = "csknet-infrared"


@dataclass(frozen=True)
class Row:
    """A line of the table: a run on some bands, the visible image over-exposed or not."""

    label: str
    run: str
    bands: Bands
    blown: bool = False

    @property
    def key(self) -> str:
        return f"{self.run} {self.bands}" + (" over-exposed" if self.blown else "")


ROWS = (
    Row("DeepLabV3+, visible", "visible", "visible"),
    Row("DeepLabV3+, visible, over-exposed", "visible", "visible", blown=True),
    Row("DeepLabV3+, infrared", "infrared", "infrared"),
    Row("CSK-Net, both bands", "csknet", "both"),
    Row("CSK-Net, both bands, visible over-exposed", "csknet", "both", blown=True),
    Row("CSK-Net, infrared only", "csknet", "infrared"),
    Row("CSK-Net, infrared only, recalibrated", RECALIBRATED, "infrared"),
    Row("CSK-Net, visible only (fallback)", "csknet", "visible"),
    Row("CSK-Net without exchange, both bands", "csknet-no-exchange", "both"),
    Row("CSK-Net without exchange, infrared only", "csknet-no-exchange", "infrared"),
    Row("AMDANet, both bands", "amdanet", "both"),
    Row("AMDANet, both bands, visible over-exposed", "amdanet", "both", blown=True),
    Row("AMDANet, infrared only (fallback)", "amdanet", "infrared"),
    Row("AMDANet, visible only (fallback)", "amdanet", "visible"),
    Row("AMDANet with gate and reconstruction, both bands", "amdanet-gated", "both"),
    Row("… visible over-exposed", "amdanet-gated", "both", blown=True),
    Row("… infrared only", "amdanet-gated", "infrared"),
    Row("… visible only", "amdanet-gated", "visible"),
)
CLASSICAL = ("average", "maximum", "laplacian", "guided")
METRICS = ("EN", "SD", "SF", "MI", "SCD", "VIF", "Qabf", "SSIM")
"""Those of CDDFuse's tables, here in the convention "standard"."""
UNTRAINED = (*BANDS_ALONE, *CLASSICAL)
"""The images themselves, and the classical fusions: the same for every seed."""
FUSED = (*UNTRAINED, "amdanet", "amdanet-gated")


class Comparison:
    """One dataset, and where its runs lie."""

    def __init__(self, name: str, arguments: argparse.Namespace):
        self.name = name
        self.dataset = DATASETS[name]
        self.source = self.dataset.source.format(pairs=arguments.pairs)
        self.weights = arguments.weights
        self.folder: Path = arguments.out / name

    def options(self, run: str, seed: int) -> TrainOptions:
        """The same encoder, widths, recipe and length for every system; only AMDANet's norms do not decay."""
        made = RUNS[run]
        folder = self.folder / f"seed{seed}"
        return TrainOptions(
            system=made.system,
            data=self.source,
            out=str(folder / run),
            encoder=ENCODER,
            encoder_weights=str(self.weights),
            network={"decoder_channels": 64, **made.network},
            loss=dict(made.loss),
            recipe={
                "name": "quick",
                "epochs": self.dataset.epochs,
                "batch_size": 8,
                "optimizer": "adamw",
                "lr": 1e-3,
                "weight_decay": 1e-2,
            },
            augmentation={} if self.dataset.crop is None else {"crop": list(self.dataset.crop)},
            reuse={"teacher": str(folder / "visible")} if made.taught else {},
            # All of the few training pairs train: no epoch is chosen, least of all on the test split.
            hold_out=0.0,
            select="last",
            accelerator="cpu",
            workers=0,
            seed=seed,
        )

    def train(self, run: str, seed: int) -> None:
        """Train a run; what is there already stays, and what was interrupted goes on."""
        options = self.options(run, seed)
        if (Path(options.out) / "config.yaml").exists():
            resume(options.out)
        else:
            train(options, command=f"python speed/real_pairs.py {self.name}")
        if run == "csknet":
            recalibrated = Path(options.out).with_name(RECALIBRATED)
            if not (recalibrated / CARD_NAME).exists():
                recalibrate_run(Path(options.out), self.source, recalibrated, batch_size=8, seed=seed)

    def predictors(self, seed: int) -> dict[str, Predictor]:
        """The finished runs of a seed."""
        folders = {run: self.folder / f"seed{seed}" / run for run in (*RUNS, RECALIBRATED)}
        return {
            run: load(folder, device="cpu")
            for run, folder in folders.items()
            if (folder / CARD_NAME).exists()
        }

    def test_pairs(self) -> Pairs:
        return open_pairs(self.source, self.dataset.test_split)

    def score(self, seed: int) -> dict[str, Any]:
        """Score every finished run of a seed on the test split; scores that are there already stay."""
        test = self.test_pairs()
        predictors = self.predictors(seed)
        path = self.folder / f"seed{seed}" / "scores.json"
        result: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"seed": seed}
        for row in ROWS:
            if row.run not in predictors or row.key in result:
                continue
            pairs = overexposed(test, STOPS) if row.blown else test
            evaluation = evaluate(predictors[row.run].system, pairs, bands=[row.bands], by=None)
            scores = evaluation.results[row.bands].overall
            assert evaluation.counts is not None
            write_pair_counts(self.counts_of(row, seed), evaluation.counts)
            result[row.key] = {
                "mean_iou": scores.protocols["present"].mean_iou,
                "iou": dict(zip(evaluation.classes.names, scores.iou, strict=True)),
            }
        result["seconds"] = {run: p.card.training["seconds"] for run, p in predictors.items()}
        methods = {name: predictors[name] for name in FUSED if name in predictors}
        if seed == 0:
            methods |= {name: load(name, device="cpu") for name in CLASSICAL} | BANDS_ALONE
        fusion = result.setdefault("fusion", {})
        methods = {name: predictor for name, predictor in methods.items() if name not in fusion}
        if methods:
            found = evaluate_fusion(methods, test, metrics=METRICS, bands_alone=False, by=None, examples=0)
            spreads = found.scopes[0].spreads
            fusion |= {
                method: {metric: spreads[metric][method].mean for metric in METRICS} for method in methods
            }
        write_text(path, json.dumps(result, indent=2) + "\n")
        return result

    def counts_of(self, row: Row, seed: int) -> Path:
        """The file with what a row counted in every test pair."""
        return self.folder / f"seed{seed}" / "counts" / f"{row.key.replace(' ', '-')}.npz"

    def interval(self, row: Row, seeds: list[int]) -> str:
        """The 95 % range of a row's mean IoU over pairs and seeds (`runs_interval`).

        A dash where what each pair counted was not kept.
        """
        paths = [self.counts_of(row, seed) for seed in seeds]
        if not all(path.exists() for path in paths):
            return "–"
        found = runs_interval(np.stack([read_pair_counts(path).matrices[row.bands] for path in paths]))
        return f"{100 * found.low:.1f} to {100 * found.high:.1f}"

    def write_pictures(self, count: int = 5) -> Path:
        """A page of pictures of seed 0 for some test pairs; it shows the data, so it stays with the runs."""
        test = self.test_pairs()
        predictors = self.predictors(0)
        classes = test.classes
        assert classes is not None
        rows = [row for row in ROWS if row.run in predictors]
        lines: list[tuple[str, list[np.ndarray | None]]] = []
        for index in np.linspace(0, len(test) - 1, count).astype(int):
            pair = test[int(index)]
            visible, infrared, label = pair_pictures(pair, classes.palette)
            assert pair.visible is not None
            pictures = [visible, to_uint8(overexpose(pair.visible, STOPS)), infrared, label]
            for row in rows:
                prediction = predictors[row.run].predict(_given(pair, row))
                assert prediction.labels is not None
                pictures.append(colour_labels(prediction.labels, classes.palette))
                if row.run in FUSED:
                    pictures.append(prediction.fused)
            lines.append((pair.name, pictures))
        titles = ["visible", "over-exposed", "infrared", "label"]
        for row in rows:
            titles += [row.label, f"{row.label}: fused"] if row.run in FUSED else [row.label]
        page = Page(f"{self.name}: seed 0, {self.dataset.test_split} pairs")
        page.legend(classes)
        page.image_grid(titles, lines, max_side=320)
        page.write(self.folder / "pictures.html")
        return self.folder / "pictures.html"


def _given(pair: Pair, row: Row) -> Pair:
    given = pair.only(row.bands)
    if given.visible is not None and row.blown:
        given.visible = overexpose(given.visible, STOPS)
    return given


def _spread(values: list[float], show: Callable[[float], str]) -> str:
    """Mean, and the range from the lowest to the highest."""
    if len(values) == 1:
        return show(values[0])
    return f"{show(mean(values))} ({show(min(values))} to {show(max(values))})"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _significant(value: float) -> str:
    """Three digits that count, or a dash: SCD is undefined for a band alone."""
    return "–" if math.isnan(value) else f"{value:.3g}"


def summarise(comparison: Comparison, results: list[dict[str, Any]]) -> str:
    """Markdown: labels, what a broken visible image costs AMDANet, and fused pictures.

    A row is over the seeds that have been scored for it, and says how many they are.
    """
    rows = [row for row in ROWS if any(row.key in result for result in results)]
    first = next(result[row.key] for row in rows for result in results if row.key in result)
    title = f"**`{comparison.name}`**. Labels: IoU in percent; 95 %: of the mean IoU, over pairs and seeds."
    lines = [title, ""]
    lines += _head(["model and bands given", "seeds", "mean IoU", "95 %", *first["iou"]])
    for row in rows:
        scored = [result[row.key] for result in results if row.key in result]
        columns = [[scores["mean_iou"] for scores in scored]]
        columns += [[scores["iou"][label] for scores in scored] for label in first["iou"]]
        cells = [_spread(column, _percent) for column in columns]
        seeds = [result["seed"] for result in results if row.key in result]
        cells.insert(1, comparison.interval(row, seeds))
        lines.append(_line([row.label, str(len(scored)), *cells]))
    lines += ["", *_losses(results), "", *_fusion(results), ""]
    seconds = {run: [r["seconds"][run] for r in results if run in r["seconds"]] for run in RUNS}
    times = [f"{run} {mean(values):.0f} s" for run, values in seconds.items() if values]
    lines.append(f"Training: {', '.join(times)}.")
    return "\n".join(lines)


def _losses(results: list[dict[str, Any]]) -> list[str]:
    """Points of mean IoU that each AMDANet loses against its own clean pairs."""
    broken = {"over-exposed visible": "both over-exposed", "no visible": "infrared", "no infrared": "visible"}
    lines = ["Points of mean IoU lost against clean pairs.", "", *_head(["", "seeds", *broken])]
    for run in ("amdanet", "amdanet-gated"):
        scored = [result for result in results if f"{run} both" in result]
        columns = [
            [r[f"{run} both"]["mean_iou"] - r[f"{run} {bands}"]["mean_iou"] for r in scored]
            for bands in broken.values()
        ]
        if scored:
            lines.append(_line([run, str(len(scored)), *(_spread(column, _percent) for column in columns)]))
    return lines


def _fusion(results: list[dict[str, Any]]) -> list[str]:
    """Fusion metrics of all methods, means over the test pairs and then over seeds."""
    lines = ["Fused pictures, convention `standard`.", "", *_head(["method", "seeds", *METRICS])]
    for method in FUSED:
        scored = [result["fusion"][method] for result in results if method in result["fusion"]]
        columns = [[scores[metric] for scores in scored] for metric in METRICS]
        cells = [_spread(column, _significant) for column in columns if column]
        if cells:
            lines.append(_line([method, "–" if method in UNTRAINED else str(len(scored)), *cells]))
    return lines


def _head(cells: list[str]) -> list[str]:
    return [_line(cells), "|---" * len(cells) + "|"]


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", choices=list(DATASETS))
    parser.add_argument("--pairs", type=Path, default=Path("."), help="folder of the real sets")
    parser.add_argument("--weights", type=Path, required=True, help=f"ImageNet weights of timm's {ENCODER}")
    parser.add_argument("--out", type=Path, default=Path("runs/real-pairs"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", nargs="+", choices=list(RUNS), default=list(RUNS), help="which to train")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    comparison = Comparison(arguments.dataset, arguments)
    for seed in arguments.seeds:
        for run in arguments.runs:
            comparison.train(run, seed)
    print(summarise(comparison, [comparison.score(seed) for seed in arguments.seeds]))
    print(f"pictures: {comparison.write_pictures()}")


if __name__ == "__main__":
    main()
