"""The texts of errors."""

from __future__ import annotations

import pytest

from crossband.errors import did_you_mean, first_line


@pytest.mark.parametrize(
    ("said", "line"),
    [("one", "one"), ("\n one\ntwo", "one"), ("", "KeyboardInterrupt"), ("\n", "KeyboardInterrupt")],
)
def test_the_first_line_of_an_error_or_its_type(said: str, line: str) -> None:
    assert first_line(KeyboardInterrupt(said)) == line


@pytest.mark.parametrize(
    ("name", "most", "hint"),
    [
        ("cskne", 1, "; did you mean csknet?"),
        ("CSKNet", 1, "; did you mean csknet?"),
        ("cen", 2, "; did you mean cen or cent?"),
        ("zzzz", 2, ""),
    ],
)
def test_the_end_of_an_error_about_an_unknown_name(name: str, most: int, hint: str) -> None:
    assert did_you_mean(name, (known for known in ("csknet", "cent", "cen")), most=most) == hint
