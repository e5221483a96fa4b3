"""What a band monitor finds that sees a run's answers too, besides the images: docs/results/robustness.md.

    python speed/answering_monitor.py RUN --data cwfid --pairs PATH --pictures 400 --severities 1 3 5

RUN is a finished run on both bands, such as `speed/broken_bands.py` trains; PATH holds the real sets. The run
answers training pairs as `crossband train --band_monitor` has it, and test pairs under the corruptions that
no training draws, on both bands and on each alone. Two monitors are fitted to the training pairs: one that
sees the images, as the product's does, and one that also sees how far the answers are from those of whole
pairs. What a run answered lies in ``--out`` and is not answered again. No thresholds are asked. One thread.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from broken_bands import ALONE, DATASETS, TOLERATED, Counting, table, without
from crossband.card import Card
from crossband.metrics.resampling import mean_ious
from crossband.pairs.base import Pairs, PairSubset
from crossband.pairs.corruption import HELD_OUT_CORRUPTIONS, NamedCorruption
from crossband.pairs.image_statistics import pair_statistics
from crossband.pairs.opening import open_pairs
from crossband.pairs.writing import replacing
from crossband.systems.base import Output, System
from crossband.trained_monitor import TrainedMonitor
from crossband.training.monitoring import Answers, answer, fit
from crossband.weights import load_run
from crossband.words import Bands

GIVEN: tuple[Bands, ...] = ("both", "infrared", "visible")
ANSWER = "answer:"
"""So begin the statistics of answers, and the groups that they are in."""
EVERY_PIXEL = 7
FEW = 20
"""Pixels added to both parts of an intersection over union, so that specks of a class weigh little."""

Heard = dict[Bands, Tensor]
"""Logits (C, H, W) of one picture, by the bands that were answered on."""


class Listening:
    """Takes the statistics of a system's answers where they are given, picture by picture.

    A picture begins with the answer on both bands. A band alone that is not answered again, since its image
    is that of a whole picture, is taken from `known`: the last picture of which all three were heard.
    """

    def __init__(self, system: System):
        self.known: Heard = {}
        self.rows: list[dict[str, float]] = []
        self._heard: Heard = {}
        system.register_forward_hook(self._hear)

    def _hear(self, system: nn.Module, images: tuple[Tensor | None, Tensor | None], output: Output) -> None:
        bands: Bands = "infrared" if images[0] is None else "visible" if images[1] is None else "both"
        assert output.logits is not None
        output.logits = output.logits.float()
        if bands == "both":
            self.finish()
        self._heard[bands] = output.logits[0]

    def finish(self) -> None:
        """The picture has been answered on all that it is answered on."""
        if not self._heard:
            return
        if len(self._heard) == len(GIVEN):
            self.known = self._heard
        self.rows.append(answer_statistics({**self.known, **self._heard}))
        self._heard = {}


def answer_statistics(logits: Heard) -> dict[str, float]:
    """How large the classes are in each answer and how sure it is, and how far each two answers agree."""
    likely = {bands: logits[bands].softmax(0) for bands in GIVEN}
    found: dict[str, float] = {}
    for bands in GIVEN:
        found |= {
            f"{ANSWER}{bands} {name}": value for name, value in _one(logits[bands], likely[bands]).items()
        }
    for first, second in combinations(GIVEN, 2):
        agreed = _agreement(likely[first], likely[second])
        found |= {f"{ANSWER}{first}~{second} {name}": value for name, value in agreed.items()}
    return found


def _one(logits: Tensor, likely: Tensor) -> dict[str, float]:
    answered, (sure, second) = logits.argmax(0), likely.topk(2, dim=0).values
    few = sure.flatten()[::EVERY_PIXEL].quantile(torch.tensor([0.05, 0.25, 0.5]))
    energy = logits.logsumexp(0)
    found: dict[str, Any] = {
        "sure": sure.mean(),
        **{f"sure {level} %": value for level, value in zip((5, 25, 50), few, strict=True)},
        "entropy": -(likely * (likely + 1e-8).log()).sum(0).mean(),
        "lead": (sure - second).mean(),
        "energy": energy.mean(),
        "energy's deviation": energy.std(),
        "highest": logits.amax(0).mean(),
        "deviation": logits.std(0).mean(),
        "edges": (answered[1:] != answered[:-1]).float().mean()
        + (answered[:, 1:] != answered[:, :-1]).float().mean(),
    }
    for number, each in enumerate(likely):
        own = answered == number
        found |= {f"share {number}": own.float().mean(), f"likely {number}": each.mean()}
        if number:
            found[f"sure of {number}"] = each[own].mean() if own.any() else 0.0
    return {name: float(value) for name, value in found.items()}


def _agreement(first: Tensor, second: Tensor) -> dict[str, float]:
    answers = first.argmax(0), second.argmax(0)
    found = {"same": float((answers[0] == answers[1]).float().mean())}
    for number in range(len(first)):
        own = answers[0] == number, answers[1] == number
        found[f"iou {number}"] = float(((own[0] & own[1]).sum() + FEW) / ((own[0] | own[1]).sum() + FEW))
    found["mean iou"] = float(np.mean([value for name, value in found.items() if name.startswith("iou")]))
    mean = (first + second) / 2
    parts = [(each * ((each + 1e-8) / (mean + 1e-8)).log()).sum(0).mean() for each in (first, second)]
    found["divergence"] = float((parts[0] + parts[1]) / 2)
    return found


def seeing_answers(answers: Answers, rows: Sequence[Mapping[str, float]]) -> Answers:
    """The same pictures, with the statistics of the answers to them, in a group for each answer and pair."""
    return replace(
        answers,
        names=(*answers.names, *rows[0]),
        kinds=(*answers.kinds, *(name.partition(" ")[0] for name in rows[0])),
        statistics=np.hstack([answers.statistics, [list(row.values()) for row in rows]]),
    )


def learn(system: System, pairs: Pairs, factor: float, seed: int, pictures: int) -> dict[str, np.ndarray]:
    """The answers to training pairs, as arrays."""
    listening = Listening(system)
    answers = answer(system, pairs, scale=(factor, factor), seed=seed, pictures=pictures)
    listening.finish()
    return {name: np.array(value) for name, value in asdict(seeing_answers(answers, listening.rows)).items()}


def tested(system: System, card: Card, pairs: Pairs, severities: Sequence[int]) -> dict[str, np.ndarray]:
    """``statistics|condition`` (N, S) and ``matrices|condition`` (N, 3, C, C), by `GIVEN`."""
    listening = Listening(system)
    counting = Counting(system, card, pairs)
    shown: dict[str, Pairs] = {"clean": counting.pairs}
    for name in HELD_OUT_CORRUPTIONS:
        shown |= {f"{name}/{level}": NamedCorruption(counting.pairs, name, level) for level in severities}
    found: dict[str, np.ndarray] = {}
    clean: dict[int, Heard] = {}
    for key, changed in shown.items():
        statistics, matrices = [], []
        for index in range(len(pairs)):
            pair, listening.known = changed[index], clean.get(index, {})
            assert pair.visible is not None
            assert pair.infrared is not None
            both = counting.matrix(pair, "both")
            matrices.append([both, *(counting.of_band(index, band, pair) for band in ALONE)])
            listening.finish()
            clean.setdefault(index, listening.known)
            seen = {**pair_statistics(pair.visible, pair.infrared), **listening.rows.pop()}
            statistics.append(list(seen.values()))
        found |= {f"statistics|{key}": np.array(statistics), f"matrices|{key}": np.array(matrices)}
    return found


def bands_kept(monitor: TrainedMonitor, names: Sequence[str], statistics: np.ndarray) -> np.ndarray:
    """(N,): the place in `GIVEN` of what a monitor leaves of each picture."""
    places = {name: place for place, name in enumerate(names)}
    seen = [one.distance(statistics[:, [places[name] for name in one.names]]) for one in monitor.usual]
    scores = monitor.scores(np.stack(seen, axis=1))
    # Without visible, the first of the bands, infrared is left, the second of `GIVEN`.
    return np.where(scores.max(1) > monitor.needed, scores.argmax(1) + 1, 0)


def report(learned: Answers, test: Mapping[str, np.ndarray], seed: int) -> str:
    """Markdown: what both monitors gain on corruptions left out, and margins on those held out."""
    images = [not kind.startswith(ANSWER) for kind in learned.kinds]
    alone = replace(
        learned,
        names=tuple(np.array(learned.names)[images]),
        kinds=tuple(np.array(learned.kinds)[images]),
        statistics=learned.statistics[:, images],
    )
    monitors = {"images": fit(alone, seed=seed), "images and answers": fit(learned, seed=seed)}
    facts = [
        [name, *(f"{100 * one.facts[key]:.1f}" for key in ("gained", "could_gain", "gained_on_whole_pairs"))]
        for name, one in monitors.items()
    ]
    titles = ["the monitor sees", "gained on corruptions left out", "could be gained", "on whole pairs"]
    clean = test["matrices|clean"]
    counted = {f"alone|{band}": clean[:, place] for place, band in enumerate(ALONE, 1)}
    rows: list[list[str]] = []
    margins: dict[str, list[float]] = {"none": [], **{name: [] for name in monitors}}
    for key in (key.partition("|")[2] for key in test if key.startswith("matrices|")):
        matrices = test[f"matrices|{key}"]
        base = clean[:, 0] if key == "clean" else without(counted, key)
        kept = {"none": np.zeros(len(matrices), int)}
        for name, one in monitors.items():
            kept[name] = bands_kept(one, learned.names, test[f"statistics|{key}"])
        cells = []
        for name, each in kept.items():
            left = matrices[np.arange(len(matrices)), each]
            margin = float(mean_ious(left.sum(0)) - mean_ious(base.sum(0)))
            margins[name] += [] if key == "clean" else [margin]
            cells.append(f"{100 * margin:+.1f}")
        dropped = (f"{(kept[name] == 1).sum()} + {(kept[name] == 2).sum()}" for name in monitors)
        rows.append([key, *cells, *dropped])
    below = [
        f"{name} {sum(one < -TOLERATED for one in each)} of {len(each)}, {100 * sum(each) / len(each):+.1f}"
        for name, each in margins.items()
    ]
    heads = ["condition", *margins, *(f"{name}: dropped, visible + infrared" for name in monitors)]
    return "\n\n".join(
        [table(titles, facts), f"worse, and mean margin: {'; '.join(below)}", table(heads, rows)]
    )


def kept_or_made(path: Path, make: Any) -> dict[str, np.ndarray]:
    """The arrays that lie at a path, made where none do."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **make())
    with np.load(path) as file:
        return dict(file)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", choices=DATASETS, required=True)
    parser.add_argument("--pairs", type=Path, default=Path("."), help="folder of the real sets")
    parser.add_argument("--pictures", type=int, default=1200, help="that a monitor is trained on, about")
    parser.add_argument("--severities", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--every", type=int, default=1, help="test pair that is scored, such as every 3rd")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bfloat16", action="store_true", help="answer in bfloat16, for speed")
    parser.add_argument("--out", type=Path, default=Path("runs/answering-monitor"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    dataset = DATASETS[given.data]

    def loaded() -> tuple[System, Card]:
        system, card = load_run(given.run)
        return system.eval().to(memory_format=torch.channels_last), card

    def training() -> dict[str, np.ndarray]:
        pairs = open_pairs(dataset.source.format(pairs=given.pairs), "train")
        return learn(loaded()[0], pairs, dataset.factor, given.seed, given.pictures)

    def testing() -> dict[str, np.ndarray]:
        pairs = dataset.opened(given.pairs, "test")
        pairs = PairSubset(pairs, range(0, len(pairs), given.every), pairs.split)
        return tested(*loaded(), pairs, given.severities)

    with torch.autocast("cpu", torch.bfloat16, enabled=given.bfloat16):
        learned = kept_or_made(given.out / "train.npz", training)
        test = kept_or_made(given.out / "test.npz", testing)
    texts = {name: tuple(map(str, learned.pop(name))) for name in ("names", "kinds")}
    print(report(Answers(**texts, **learned), test, given.seed))


if __name__ == "__main__":
    main()
