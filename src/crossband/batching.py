"""Many pairs through one predictor: read ahead, several of one size at once, in the order they came in."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from numbers import Integral
from typing import TypeVar

import numpy as np

from crossband.errors import OptionError, PairError, quoted
from crossband.pairs.base import Pair

Item = TypeVar("Item")
Result = TypeVar("Result")


def stacked(images: list[np.ndarray | None]) -> np.ndarray | None:
    """Images of one size as one array with a batch's axis in front; None if none of them is there."""
    there = [image for image in images if image is not None]
    if not there:
        return None
    return there[0][None] if len(there) == 1 else np.stack(there)


def check_batching(batch_size: int, workers: int) -> None:
    """Raise OptionError for a batch size below 1, workers below 0, or what is no whole number."""
    for name, count in (("batch size", batch_size), ("number of workers", workers)):
        if not isinstance(count, Integral):
            raise OptionError(f"the {name} must be an integer, not {quoted(count)}")
    if batch_size < 1:
        raise OptionError(f"the batch size must be at least 1, not {batch_size}")
    if workers < 0:
        raise OptionError(f"the number of workers must be 0 or more, not {workers}")


def in_batches(
    items: Iterable[Item],
    read: Callable[[Item], Pair],
    compute: Callable[[list[Pair]], list[Result]],
    *,
    batch_size: int,
    workers: int,
) -> Iterator[tuple[Item, Result | PairError]]:
    """Every item with its result, or with the PairError that reading it raised, in order.

    read: called in ``workers`` threads, a few items ahead of what is computed. compute: called with up to
    ``batch_size`` consecutive pairs of one size and with the same bands; pairs that cannot be read are passed
    over. No more than ``batch_size`` pairs and what is read ahead are held.

    Raises OptionError as `check_batching`, and what compute raises.
    """
    check_batching(batch_size, workers)
    waiting: list[tuple[Item, Pair | PairError]] = []
    for item, pair in _read_ahead(items, read, workers, max(2 * workers, batch_size if workers else 0)):
        good = [other for _, other in (*waiting, (item, pair)) if isinstance(other, Pair)]
        if isinstance(pair, Pair) and _kind(pair) != _kind(good[0]):
            yield from _computed(waiting, compute)
            waiting, good = [], [pair]
        waiting.append((item, pair))
        # With nothing to compute before it, an error is told at once.
        if len(good) in (0, batch_size):
            yield from _computed(waiting, compute)
            waiting = []
    yield from _computed(waiting, compute)


def _computed(
    waiting: list[tuple[Item, Pair | PairError]], compute: Callable[[list[Pair]], list[Result]]
) -> Iterator[tuple[Item, Result | PairError]]:
    good = [pair for _, pair in waiting if isinstance(pair, Pair)]
    results = iter(compute(good) if good else [])
    for item, pair in waiting:
        yield item, next(results) if isinstance(pair, Pair) else pair


def _kind(pair: Pair) -> tuple[object, ...]:
    return pair.size, pair.visible is None, pair.infrared is None


def _read_ahead(
    items: Iterable[Item], read: Callable[[Item], Pair], workers: int, ahead: int
) -> Iterator[tuple[Item, Pair | PairError]]:
    """Read in threads, so many items ahead of the one in use, and give them in order; an error as a value."""

    def attempt(item: Item) -> Pair | PairError:
        try:
            return read(item)
        except PairError as error:
            return error

    with ThreadPoolExecutor(max(workers, 1)) as pool:
        waiting: deque[tuple[Item, Future[Pair | PairError]]] = deque()
        try:
            for item in items:
                waiting.append((item, pool.submit(attempt, item)))
                if len(waiting) > ahead:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            for _, future in waiting:
                future.cancel()
