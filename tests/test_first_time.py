"""What is said once of a folder, whoever asks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

from crossband.pairs.first_time import is_first_time


def test_every_folder_and_every_thing_said_has_a_first_time_of_its_own(tmp_path: Path) -> None:
    asked = [("a", "x"), ("a", "x"), ("a", "y"), ("b", "x"), ("a", "y")]
    assert [is_first_time(what, tmp_path / name) for what, name in asked] == [True, False, True, True, False]


def test_of_many_threads_one_is_first(tmp_path: Path) -> None:
    together = Barrier(8)

    def ask(_: int) -> int:
        together.wait()
        return sum(is_first_time("a", tmp_path / str(number)) for number in range(2000))

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(ask, range(8))) == 2000
