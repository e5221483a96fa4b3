"""The texts of errors."""

from __future__ import annotations

import pytest

from crossband.errors import first_line


@pytest.mark.parametrize(
    ("said", "line"),
    [("one", "one"), ("\n one\ntwo", "one"), ("", "KeyboardInterrupt"), ("\n", "KeyboardInterrupt")],
)
def test_the_first_line_of_an_error_or_its_type(said: str, line: str) -> None:
    assert first_line(KeyboardInterrupt(said)) == line
