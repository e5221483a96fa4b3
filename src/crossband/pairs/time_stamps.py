"""Times of images: read from names, matched between two cameras one to one, and how far apart they are."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from crossband.errors import OptionError, PairError, quoted

_NANOSECONDS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
SECOND = _NANOSECONDS["s"]

_GAP = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>ns|us|ms|s)")
_DATE = re.compile(
    r"(?<!\d)(?P<date>(19|20)\d\d[-_]?[01]\d[-_]?[0-3]\d)[T_ -]?(?P<time>[0-2]\d[-_:.]?[0-5]\d[-_:.]?[0-6]\d)"
    r"((?P<direct>(\d{9}|\d{6}|\d{3}))|[.,](?P<fraction>\d{1,9})|[_-](?P<apart>\d{9}|\d{6}|\d{3}))?(?!\d)"
)
_EPOCH = re.compile(
    r"(?<![\d.])(?P<seconds>\d{10})([._-](?P<apart>\d{9}|\d{6}|\d{3})|\.(?P<fraction>\d{1,9}))(?!\d)"
)
# Ten digits from 0 are a number filled up, as KITTI's 0000000042, and no second of 1970 to 2001.
_COUNT = re.compile(r"(?<!\d)(\d{19}|\d{16}|\d{13}|[1-9]\d{9})(?!\d)")
_UNIT_OF_DIGITS = {10: "s", 13: "ms", 16: "us", 19: "ns"}
_SECONDS = re.compile(r"(?<![\d.])(?P<seconds>\d{1,9})\.(?P<fraction>\d{1,9})(?![\d.])")

TIME_FORMS = "1700000000.123456, 1700000000123 (ms; 16 digits: us, 19: ns), 20240131T235959.123 or 12.345"


@dataclass(frozen=True)
class Offsets:
    """How two lists of times were matched.

    gaps: of each pair, the second time after the first one, in nanoseconds. single: how many of each list
    stayed without a partner. counts: how many there are in each.
    """

    gaps: tuple[int, ...]
    single: tuple[int, int]
    counts: tuple[int, int]

    def __str__(self) -> str:
        """One line: pairs, the median of the gaps, how far 95 % of them reach, and what stayed single."""
        left = ", ".join(
            f"{single} of {count} {band} ({100 * single / max(count, 1):.1f} %)"
            for band, single, count in zip(("visible", "infrared"), self.single, self.counts, strict=True)
        )
        if not self.gaps:
            return f"no pairs by time; single: {left}"
        milliseconds = np.array(self.gaps) / _NANOSECONDS["ms"]
        return (
            f"{len(self.gaps)} pairs by time; infrared comes {np.median(milliseconds):+z.1f} ms after "
            f"visible (median), 95 % are within {np.percentile(np.abs(milliseconds), 95):.1f} ms; "
            f"single: {left}"
        )


def parse_gap(text: str) -> int:
    """A span of time such as ``20ms``, ``0.1s`` or ``500us``, in nanoseconds. Raises OptionError."""
    match = _GAP.fullmatch(text.strip())
    if match is None:
        raise OptionError(
            f"max_gap={quoted(text)} is no span of time; write a number and ns, us, ms or s: 20ms"
        )
    return round(float(match["number"]) * _NANOSECONDS[match["unit"]])


def time_of_name(name: str) -> int:
    """The time that a file's name holds, in nanoseconds since 1970, or since where its seconds begin.

    Read are dates with a time of day, taken as UTC, with or without a fraction; seconds since 1970 with a
    fraction; 10 (the first not 0), 13, 16 or 19 digits, which are seconds, milli-, micro- or nanoseconds; and
    seconds with a decimal point. Of a name with folders the last part counts.

    Raises PairError for a name without one.
    """
    text = name.rpartition("/")[2]
    for date in _DATE.finditer(text):
        digits = re.sub(r"\D", "", date["date"] + date["time"])
        try:
            moment = datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        except ValueError:
            continue
        return int(moment.timestamp()) * SECOND + _fraction(
            date["direct"] or date["fraction"] or date["apart"]
        )
    if epoch := _EPOCH.search(text):
        return int(epoch["seconds"]) * SECOND + _fraction(epoch["apart"] or epoch["fraction"])
    if count := _COUNT.search(text):
        return int(count[1]) * _NANOSECONDS[_UNIT_OF_DIGITS[len(count[1])]]
    if seconds := _SECONDS.search(text):
        return int(seconds["seconds"]) * SECOND + _fraction(seconds["fraction"])
    raise PairError(
        f"the name {quoted(name)} holds no time; to pair by time, name images such as {TIME_FORMS}"
    )


def nearest_pairs(first: Sequence[int], second: Sequence[int], max_gap: int) -> list[tuple[int, int]]:
    """The places of times that go together: nearest first, each once, none further apart than max_gap.

    first, second: times in nanoseconds, in any order. Gives places in the order of the first one's times.
    """
    order = sorted(range(len(second)), key=second.__getitem__)
    rising = [second[place] for place in order]
    near = [
        (abs(rising[at] - time), place, order[at])
        for place, time in enumerate(first)
        for at in range(bisect_left(rising, time - max_gap), bisect_right(rising, time + max_gap))
    ]
    chosen: dict[int, int] = {}
    taken: set[int] = set()
    for _, one, other in sorted(near):
        if one not in chosen and other not in taken:
            chosen[one] = other
            taken.add(other)
    return sorted(chosen.items(), key=lambda pair: first[pair[0]])


def offsets(first: Sequence[int], second: Sequence[int], pairs: Sequence[tuple[int, int]]) -> Offsets:
    """How two lists of times go together by `nearest_pairs`."""
    return Offsets(
        tuple(second[other] - first[one] for one, other in pairs),
        (len(first) - len(pairs), len(second) - len(pairs)),
        (len(first), len(second)),
    )


def _fraction(digits: str | None) -> int:
    """A second's decimal places as nanoseconds."""
    return int((digits or "0").ljust(9, "0"))
