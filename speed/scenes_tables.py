"""The papers' tables on other data, and what rows have over each other: docs/results/scenes-tables.md.

    python speed/scenes_tables.py runs/scenes-tables

The folder is one that `crossband reproduce all --on ... --out FOLDER` filled. Prints the tables in short,
with the 95 % intervals that those have, and the differences between rows seed by seed, with intervals over
seeds and over pairs and seeds (`paired`). Nothing is trained or scored.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from crossband.evaluation.pair_counts import read_pair_counts
from crossband.metrics.resampling import mean_ious
from crossband.pairs.benchmarks import BENCHMARKS
from crossband.reproduce.filling import Filled, Ours, fill
from crossband.reproduce.folders import counts_of
from crossband.reproduce.jobs import Plan
from crossband.reproduce.planning import make_plan
from crossband.reproduce.settings import Settings
from crossband.reproduce.settings_file import SETTINGS_NAME
from crossband.reproduce.table import Row, Table
from crossband.reproduce.tables import TABLES
from crossband.yaml_files import read_yaml
from paired import Scored, table_of_differences

TOGETHER = (
    ("csknet/table-1", "csknet/table-2", "csknet/table-3"),
    *((name,) for name in TABLES if name not in ("csknet/table-1", "csknet/table-2", "csknet/table-3")),
)
"""Tables of the same rows, printed as one."""
IR, CSKNET, AMDANET = "IR", "CSK-Net", "AMDANet"
PARTS_OF_CSKNET = (
    "w/o contrastive learning",
    "w/o gated spectral unit",
    "w/o mixed feature exchange",
    "w/o contrastive learning and mixed feature exchange",
)
PARTS_OF_AMDANET = (
    "w/o local alignment",
    "w/o global alignment",
    "w/o salient feature enhancement",
    "with CBAM",
    "with DANet",
)
SETTINGS_OF_AMDANET = (
    *(f"alpha 1 = {value}" for value in (0.3, 0.5, 0.7)),
    *(f"alpha {number} = {value}" for number in (2, 3) for value in (0.3, 0.6, 0.7)),
    *(f"tau = {value}" for value in (0.2, 0.6, 0.8)),
)
COMPARED: tuple[tuple[Sequence[str], Sequence[str]], ...] = (
    ([CSKNET], ["C.E.N.", "CDDFuse", "MMANet", "VI", IR]),
    (["CSK-Net, infrared", "DisOptNet", "DisOptNet, fused head", "MMANet, infrared"], [IR]),
    (PARTS_OF_CSKNET, [CSKNET]),
    ([AMDANET], ["SegMiF", "MRFS", CSKNET]),
    (PARTS_OF_AMDANET, [AMDANET]),
    (SETTINGS_OF_AMDANET, [AMDANET]),
)
"""Rows, and those that they are held against."""


def named(row: Row, table: Table) -> str:
    """A row's label, with its bands where another row of the table has the same on both."""
    alike = any(other.label == row.label and other.bands == "both" for other in table.rows)
    return f"{row.label}, {row.bands}" if alike and row.bands != "both" else row.label


def scored(plan: Plan, folder: Path) -> Iterator[Scored]:
    """What every row that is finished had with each seed; a row of several tables is there once."""
    done = set()
    for table in plan.tables:
        for index, row in enumerate(table.rows):
            name = named(row, table)
            if name in done:
                continue
            done.add(name)
            identity, test = plan.reads[table.name, index, table.benchmarks[0]]
            for seed in range(plan.seeds):
                path = counts_of(folder, f"{identity}/seed{seed}", test)
                if path.is_file():
                    whole = read_pair_counts(path).matrices[row.bands].sum(axis=0)
                    score = float(mean_ious(whole, "present"))
                    yield Scored(name, row.bands, row.bands, seed, score, path)


def told(ours: Ours) -> str:
    """Mean (lowest to highest; its interval), in percent."""
    if not ours.values:
        return "–"
    values = [100 * value for value in ours.values]
    inside = [f"{min(values):.1f} to {max(values):.1f}"] if len(values) > 1 else []
    if ours.interval is not None:
        inside.append(f"{100 * ours.interval.low:.1f} to {100 * ours.interval.high:.1f}")
    return f"{100 * ours.mean:.1f} ({'; '.join(inside)})"


def short(tables: Sequence[Filled]) -> str:
    """Markdown: of tables with the same rows what each prints, then ours under ``present``."""
    first = tables[0]
    columns = [(each.table, column) for each in tables for column in each.table.columns]
    printed = []
    for _, column in columns:
        benchmark = BENCHMARKS[column.benchmark].title.partition(" ")[0]
        printed.append(benchmark if column.measure == "mean_iou" else f"{benchmark}, class accuracy")
    kinds = [(number, block.measure) for number, block in enumerate(first.blocks)]
    heads = [f"ours, {'`present`' if kind == 'mean_iou' else 'mean class accuracy'}" for _, kind in kinds]
    lines = [["row", "bands", f"published: {'; '.join(printed)}", *heads, "parameters as run"]]
    for index, filled in enumerate(first.rows):
        row = filled.row
        published = [table.cell(table.rows[index], column).text or "–" for table, column in columns]
        ours = [
            told(filled.ours[number, "present" if kind == "mean_iou" else None]) for number, kind in kinds
        ]
        size = "–" if filled.run_size is None else f"{filled.run_size.deployed / 1e6:.2f} M"
        lines.append([row.label, row.bands, "; ".join(published), *ours, size])
    head, *body = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([head, "|---" * len(lines[0]) + "|", *body])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    settings = Settings(**dict(read_yaml(arguments.folder / SETTINGS_NAME)))
    plan = make_plan(list(TABLES.values()), settings, seeds=arguments.seeds)
    for names in TOGETHER:
        filled = [fill(TABLES[name], plan, arguments.folder, {}, {}) for name in names]
        print(f"**{', '.join(names)}**\n\n{short(filled)}\n")
    found = list(scored(plan, arguments.folder))
    for rows, others in COMPARED:
        print(f"{table_of_differences(found, rows, others, 1)}\n")


if __name__ == "__main__":
    main()
