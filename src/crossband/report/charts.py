"""Charts for report pages, in colours that are told apart on light and on dark, and by colour-blind eyes."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from crossband.errors import OptionError
from crossband.pairs.base import Classes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from crossband.metrics.resampling import Interval
    from crossband.metrics.segmentation import SegmentationScores

SERIES_COLOURS = ("#3b7dd8", "#ff6611", "#775555", "#bbaacc", "#dd9977", "#7711ee", "#994422", "#666688")
_GRID_COLOUR = "#8a94a0"
_RANGE_COLOUR = "#000000"
"""Becomes the colour of the page's text."""
_BAR_INCHES = 5.4
"""As wide as a narrow screen shows without making its text small."""
_LEGEND_INCHES = 0.22
"""Of a line of a legend."""
_KEY_INCHES, _LETTER_INCHES = 0.5, 0.08
"""Of a legend: the width of a key with the space around it, and of a letter."""


def per_class_iou_chart(
    scores: Mapping[str, SegmentationScores],
    classes: Classes,
    ranges: Mapping[str, Sequence[Interval]] | None = None,
) -> Figure:
    """IoU of every class as bars, one bar per entry of ``scores`` (its key names it in the legend).

    ranges: by the same keys, the interval of every class's IoU, drawn as a line over its bar.
    Classes without a defined IoU (neither in the truth nor predicted) get a dash in place of a bar.
    """
    return _bars(
        {name: score.iou for name, score in scores.items()}, classes.names, "IoU (%)", dict(ranges or {})
    )


def mean_iou_chart(scores: Mapping[str, Sequence[Interval]], scopes: Sequence[str]) -> Figure:
    """The mean IoU of several scopes, such as conditions, as bars with their intervals.

    scores: by the name for the legend, one for each of ``scopes``.
    """
    values = {name: [found.value for found in each] for name, each in scores.items()}
    return _bars(values, scopes, "mean IoU (%)", dict(scores))


def _bars(
    values: Mapping[str, Sequence[float]],
    rows: Sequence[str],
    title: str,
    ranges: Mapping[str, Sequence[Interval]],
) -> Figure:
    """Shares in [0, 1] as bars in percent: a group for each row, a bar in it for each entry of ``values``."""
    positions = np.arange(len(rows))
    thickness = 0.8 / len(values)
    lines = _legend_lines(values)
    inches = max(1.2, len(rows) * (0.16 + 0.14 * len(values)))
    figure = _new_figure(_BAR_INCHES, inches + 0.5 + _LEGEND_INCHES * lines)
    axes = figure.subplots()
    for number, (name, shares) in enumerate(values.items()):
        percent = 100 * np.asarray(shares, dtype=float)
        offsets = positions - 0.4 + thickness * (number + 0.5)
        colour = SERIES_COLOURS[number % len(SERIES_COLOURS)]
        axes.barh(offsets, np.nan_to_num(percent), height=thickness * 0.86, color=colour, label=name)
        bounds = [(100 * found.low, 100 * found.high) for found in ranges.get(name, ())]
        ends = np.nan_to_num(percent)
        if bounds:
            axes.hlines(offsets, *np.array(bounds).T, color=_RANGE_COLOUR, lw=1.2)
            ends = np.fmax(ends, np.array(bounds)[:, 1])
        for offset, end, value in zip(offsets, ends, percent, strict=True):
            text = "–" if math.isnan(value) else f"{value:.1f}"
            axes.text(end + 0.8, offset, text, va="center", fontsize=7.5)
    axes.set_yticks(positions, [_literal(name) for name in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, 108)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel(title)
    _quiet(axes, "x")
    axes.tick_params(axis="y", length=0)
    _legend_above(figure, axes)
    return figure


def learning_curves(
    curves: Mapping[str, Sequence[Mapping[str, float | None]]],
    *,
    x: str = "epoch",
    panels: Mapping[str, str] | None = None,
) -> Figure:
    """What was logged while training, one panel per measure and one line per model.

    curves: by the model's name, the rows that were logged, each with ``x`` and some measures; a measure
        that is absent, None or NaN in a row is passed over.
    panels: the measures to show and what their axis says; without it every measure, under its own name.

    Raises OptionError if no row has any of the measures.
    """
    if panels is None:
        panels = {name: name for rows in curves.values() for row in rows for name in row if name != x}
    shown = {
        measure: label
        for measure, label in panels.items()
        if any(_points(r, x, measure) for r in curves.values())
    }
    if not shown:
        raise OptionError(f"no learning curves to draw: no logged row has {x!r} and one of {list(panels)}")
    columns = min(len(shown), 3)
    lines = math.ceil(len(shown) / columns)
    width = max(_BAR_INCHES, 3.5 * columns)
    figure = _new_figure(width, 2.7 * lines + 0.2 + _LEGEND_INCHES * _legend_lines(curves, width))
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, (measure, label) in zip(grid, shown.items(), strict=False):
        for number, (name, rows) in enumerate(curves.items()):
            points = np.array(_points(rows, x, measure), dtype=float).reshape(-1, 2)
            colour = SERIES_COLOURS[number % len(SERIES_COLOURS)]
            marker = "o" if len(points) == 1 else None
            axes.plot(*points.T, color=colour, lw=1.6, marker=marker, label=name)
        axes.set_xlabel(x)
        axes.set_title(_literal(label), loc="left", fontsize=9.5)
        _quiet(axes, "both")
    for axes in grid[len(shown) :]:
        axes.set_axis_off()
    _legend_above(figure, grid[0])
    return figure


def difference_chart(differences: Sequence[tuple[str, Interval]]) -> Figure:
    """Differences of shares in [-1, 1] as dots with their intervals, in points, around a line at zero.

    A class and a condition may have the same name.
    """
    figure = _new_figure(_BAR_INCHES, max(1.5, 0.3 * len(differences)) + 0.7)
    axes = figure.subplots()
    for place, (_, found) in enumerate(differences):
        colour = SERIES_COLOURS[0] if found.excludes_zero else _GRID_COLOUR
        axes.plot([100 * found.low, 100 * found.high], [place, place], color=colour, linewidth=2)
        axes.plot([100 * found.value], [place], "o", color=colour, markersize=5)
    axes.axvline(0, color=_GRID_COLOUR, linewidth=1)
    axes.set_yticks(range(len(differences)), [_literal(name) for name, _ in differences])
    axes.set_ylim(len(differences) - 0.5, -0.5)
    axes.set_xlabel("points")
    _quiet(axes, "x")
    axes.tick_params(axis="y", length=0)
    return figure


def spread_chart(panels: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """How values spread over images: one panel per entry, and in it one box per method.

    A box holds the middle half of the values, the line in it is their median, its whiskers end at the
    smallest and the largest, and a dot is the mean. NaN is passed over, and so is what is not finite.
    panels: by the panel's title, the values by method; every panel has the same methods.

    Raises OptionError if there is no panel or no method.
    """
    if not panels or not next(iter(panels.values())):
        raise OptionError("no spread to draw: there are no values")
    methods = list(next(iter(panels.values())))
    columns = min(len(panels), 3)
    lines = math.ceil(len(panels) / columns)
    figure = _new_figure(max(_BAR_INCHES, 3.5 * columns), lines * (0.75 + 0.24 * len(methods)))
    figure.set_layout_engine("constrained", h_pad=0.08)
    grid = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
    for axes, (title, values) in zip(grid, panels.items(), strict=False):
        for number, name in enumerate(methods):
            finite = [value for value in values[name] if math.isfinite(value)]
            colour = SERIES_COLOURS[number % len(SERIES_COLOURS)]
            if finite:
                _box(axes, finite, number, colour)
        axes.set_title(_literal(title), loc="left", fontsize=9.5)
        _quiet(axes, "x")
        axes.tick_params(axis="y", length=0)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    grid[0].set_yticks(range(len(methods)), [_literal(name) for name in methods])
    grid[0].set_ylim(len(methods) - 0.5, -0.5)
    return figure


def _box(axes: Axes, values: Sequence[float], position: float, colour: str) -> None:
    axes.boxplot(
        [values],
        positions=[position],
        orientation="horizontal",
        widths=0.62,
        whis=(0, 100),
        showmeans=True,
        manage_ticks=False,
        patch_artist=True,
        boxprops={"facecolor": colour, "edgecolor": colour, "alpha": 0.45},
        medianprops={"color": colour, "lw": 2},
        whiskerprops={"color": colour},
        capprops={"color": colour},
        meanprops={"marker": "o", "markerfacecolor": "#000000", "markeredgecolor": "none", "markersize": 3},
    )


def _points(rows: Sequence[Mapping[str, float | None]], x: str, measure: str) -> list[tuple[float, float]]:
    pairs = ((row.get(x), row.get(measure)) for row in rows)
    return [(a, b) for a, b in pairs if a is not None and b is not None and not math.isnan(a + b)]


def _new_figure(width: float, height: float) -> Figure:
    # Made without pyplot: nothing global is touched and no window system is asked for.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _legend_columns(names: Iterable[str], width: float) -> int:
    """How many of the longest name stand beside each other, so that none is cut."""
    longest = max((len(name) for name in names), default=0)
    return max(1, int(width / (_KEY_INCHES + _LETTER_INCHES * longest)))


def _legend_lines(names: Collection[str], width: float = _BAR_INCHES) -> int:
    return math.ceil(len(names) / _legend_columns(names, width))


def _legend_above(figure: Figure, axes: Axes) -> None:
    handles, names = axes.get_legend_handles_labels()
    if names:
        figure.legend(
            handles,
            [_literal(name) for name in names],
            loc="outside upper left",
            ncols=min(len(names), _legend_columns(names, float(figure.get_figwidth()))),
            frameon=False,
            fontsize=9,
            handlelength=1.2,
        )


def _quiet(axes: Axes, grid: str) -> None:
    axes.grid(axis=grid, color=_GRID_COLOUR, alpha=0.3, lw=0.7)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8.5, color=_GRID_COLOUR)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_GRID_COLOUR)


def _literal(text: str) -> str:
    """Text in which matplotlib finds no formula: a class may have a dollar sign in its name."""
    return text.replace("$", r"\$")
