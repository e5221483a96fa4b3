"""Whether a broken band is worse than none, before and after a band monitor: docs/results/robustness.md.

    python speed/broken_bands.py csknet csknet-robust --data cwfid --seeds 0 --pairs PATH --weights PATH

PATH holds the real sets. Every run is trained, its band monitor too (`crossband.training.monitoring`), and
its answers under the corruptions that no training draws are counted pair by pair: as they are, with the
monitor that looks for thresholds, and with the trained one. What is counted lies in ``counts/``, and is not
counted again; ``runs.csv`` has a line for every condition of every run. Without the name of a run, the tables
of these lines are printed. One thread by default.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from broken_bands_tables import ALONE, CLEAN, COLUMNS, STATES, lines_of_counts, tables
from crossband.band_monitor import PairMonitor, bands_left, faults_of
from crossband.card import CARD_NAME, Card
from crossband.metrics.segmentation import confusion_matrix
from crossband.pairs.base import Pair, Pairs, PairSubset, PairView
from crossband.pairs.corruption import HELD_OUT_CORRUPTIONS, InState, NamedCorruption
from crossband.pairs.opening import open_pairs
from crossband.pairs.writing import replacing, write_text
from crossband.reproduce.quick import particular
from crossband.run_card import read_card
from crossband.systems import split_options
from crossband.systems.base import System
from crossband.trained_monitor import TrainedMonitor
from crossband.training.monitor_fitting import fit
from crossband.training.monitoring import answer
from crossband.words import Bands
from small_runs import (
    CROP,
    MSRS_BOXES,
    PLAIN,
    VISIBLE,
    Dataset,
    Run,
    Series,
    append,
    is_told,
    lines_of,
    run_arguments,
)

COMMAND = "python speed/broken_bands.py"
DATASETS = {
    "cwfid": Dataset("folder:{pairs}/cwfid", 20, 4, CROP, 0.5),
    "msrs_boxes": MSRS_BOXES,
    "scenes": Dataset("scenes,train=200,val=1,test=96,size=120x160", 4, 4, (96, 128)),
}
"""Each trained for 200 steps."""
GATED = {"reliability_gate": True, "reconstruction": True}


def small(system: str, epochs: int, **changes: Any) -> Run:
    """A system as narrow as `crossband reproduce --budget quick` has it."""
    quick = particular(system)
    network, loss = split_options(system, quick.options)
    network = {**network, **changes.pop("network", {})}
    base = Run(system, network=network, loss=loss, phases=quick.phase_recipes(epochs))
    return replace(base, teacher=VISIBLE if system == "csknet" else None, **changes)


def runs_of(epochs: int) -> dict[str, Run]:
    """By name. "infrared" and "visible" are the specialists of one band."""
    return {
        **PLAIN,
        "csknet": small("csknet", epochs),
        "csknet-robust": small("csknet", epochs, robust=True),
        "csknet-firm-robust": small("csknet", epochs, variant="firm", robust=True),
        "amdanet": small("amdanet", epochs),
        "amdanet-robust": small("amdanet", epochs, robust=True),
        "amdanet-gated-robust": small("amdanet", epochs, network=GATED, robust=True),
    }


class Held(PairView):
    """Pairs that are read once, so that one image is one object."""

    def __init__(self, pairs: Pairs):
        super().__init__(pairs)
        self.read = cache(pairs.__getitem__)

    def __getitem__(self, index: int) -> Pair:
        return self.read(index)


class Counting:
    """What a run gets right on pairs, counted with as few passes as will do."""

    def __init__(self, system: System, card: Card, pairs: Pairs):
        assert pairs.classes is not None
        self.system, self.pairs, self.classes = system.eval(), Held(pairs), len(pairs.classes)
        self.alone: dict[tuple[int, Bands], np.ndarray] = {}
        self.monitors = {"thresholds": PairMonitor()}
        if card.monitor is not None:
            self.monitors["trained"] = PairMonitor(TrainedMonitor.from_fields(card.monitor))

    @torch.inference_mode()
    def answer(self, pair: Pair, bands: Bands) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The matrix of the answer on these bands, its labels and its confidence."""
        assert pair.label is not None
        images = [
            None if image is None or bands not in ("both", band) else torch.from_numpy(np.array(image))[None]
            for band, image in (("visible", pair.visible), ("infrared", pair.infrared))
        ]
        visible = None if images[0] is None else images[0].permute(0, 3, 1, 2)
        infrared = None if images[1] is None else images[1][:, None]
        likeliest, ids = self.system(visible, infrared).logits[0].softmax(0).max(0)
        label = torch.from_numpy(np.array(pair.label)).long()
        matrix = confusion_matrix(ids, label, self.classes).numpy().astype(np.int32)
        return matrix, ids.to(torch.uint8).numpy(), likeliest.numpy()

    def of_band(self, index: int, bands: Bands, pair: Pair) -> np.ndarray:
        """The matrix of a band alone, which is known where the image is that of the clean pair."""
        clean = getattr(pair, bands) is getattr(self.pairs[index], bands)
        if not clean:
            return self.answer(pair, bands)[0]
        if (index, bands) not in self.alone:
            self.alone[index, bands] = self.answer(pair, bands)[0]
        return self.alone[index, bands]

    def condition(self, shown: Pairs) -> Iterator[dict[str, np.ndarray]]:
        """Pair by pair, the matrix by monitor, and what each left: 0 both, 1 infrared, 2 visible."""
        for index in range(len(self.pairs)):
            pair = shown[index]
            both, *answer = self.answer(pair, "both")
            found = {"none": both}
            for name, monitor in self.monitors.items():
                faults = faults_of(pair.visible, pair.infrared)
                faults = faults or monitor.in_answer(pair.visible, pair.infrared, *answer)
                left = bands_left("both", faults, self.system.supports)
                found[name] = both if left == "both" else self.of_band(index, left, pair)
                found[f"{name} left"] = np.array(("both", *ALONE).index(left))
            yield found


def count(system: System, card: Card, pairs: Pairs, severities: list[int]) -> dict[str, np.ndarray]:
    """Everything that is counted of a run, by ``monitor|condition``; ``alone|band`` of clean pairs."""
    counting = Counting(system, card, pairs)
    found: dict[str, np.ndarray] = {}
    for band in ALONE:
        if band in system.supports:
            of_band = [counting.of_band(i, band, counting.pairs[i]) for i in range(len(pairs))]
            found[f"alone|{band}"] = np.stack(of_band)
    if "both" not in system.supports:
        return found
    shown: dict[str, Pairs] = {CLEAN: counting.pairs}
    for name in HELD_OUT_CORRUPTIONS:
        shown |= {f"{name}/{level}": NamedCorruption(counting.pairs, name, level) for level in severities}
    shown |= {state: InState(counting.pairs, state) for state in STATES}
    for key, changed in shown.items():
        counted = list(counting.condition(changed))
        found |= {f"{way}|{key}": np.stack([one[way] for one in counted]) for way in counted[0]}
    return found


class Breaking(Series):
    """One set and seed: runs, their monitors, and what they get right."""

    def __init__(self, data: str, seed: int, arguments: argparse.Namespace):
        dataset = DATASETS[data]
        super().__init__(runs_of(dataset.epochs), data, dataset, seed, arguments)

    def counts(self, run: str) -> Path:
        return self.arguments.out / "counts" / f"{self.name}-{run}-{self.seed}.npz"

    def watched(self, run: str) -> tuple[System, Card]:
        """A trained run whose card has a band monitor, where it has two bands."""
        system, card = self.trained(run, COMMAND)
        if card.monitor is None and "both" in system.supports:
            pairs = open_pairs(self.dataset.source.format(pairs=self.arguments.pairs), "train")
            scale = (self.dataset.factor, self.dataset.factor)
            answers = answer(system, pairs, scale=scale, seed=self.seed, pictures=self.arguments.pictures)
            card.monitor = fit(answers, seed=self.seed).to_fields()
            write_text(self.folder / run / CARD_NAME, card.to_json())
        return system, card

    def counted(self, run: str) -> dict[str, np.ndarray]:
        """What a run gets right, which is counted where it is not."""
        path = self.counts(run)
        if not path.exists():
            system, card = self.watched(run)
            pairs = self.pairs("test")
            pairs = PairSubset(pairs, range(0, len(pairs), self.arguments.every), pairs.split)
            found = count(system, card, pairs, self.arguments.severities)
            with replacing(path) as temporary, temporary.open("wb") as file:
                np.savez_compressed(file, **found)  # type: ignore[arg-type]
        with np.load(path) as file:
            return dict(file)

    def finish(self, run: str) -> None:
        """Add the lines of a run to the table, where it has none."""
        table: Path = self.arguments.out / "runs.csv"
        key = {"set": self.name, "run": run, "seed": self.seed}
        if is_told(table, key):
            return
        lines = lines_of_counts(self.counted(run))
        revision = read_card(self.folder / run).git_revision
        append(table, COLUMNS, [{**key, **line, "revision": revision} for line in lines])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = runs_of(1)
    parser.add_argument("runs", nargs="*", help=f"of {', '.join(known)}; none prints the tables")
    parser.add_argument("--data", choices=DATASETS, nargs="+", default=["cwfid"])
    parser.add_argument("--severities", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--pictures", type=int, default=1200, help="that a monitor is trained on, about")
    parser.add_argument("--every", type=int, default=1, help="test pair that is scored, such as every 3rd")
    run_arguments(parser, "runs/broken-bands")
    arguments = parser.parse_args()
    if not arguments.runs:
        print(tables(lines_of(arguments.out / "runs.csv")))
        return
    unknown = sorted(set(arguments.runs) - set(known))
    if unknown or arguments.weights is None:
        parser.error(f"no run {unknown[0]!r}" if unknown else "--weights is needed to train")
    torch.set_num_threads(arguments.threads)
    for seed in arguments.seeds:
        for data in arguments.data:
            for run in arguments.runs:
                began = time.monotonic()
                Breaking(data, seed, arguments).finish(run)
                print(f"{data} {run} seed {seed}: {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
