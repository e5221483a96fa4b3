"""Numbers and tables as text."""

import math

import pytest

from crossband.report.comparison_files import points_text
from crossband.text import counted, decimal, listed, markdown_table, percent, spoken_time, text_table


def test_a_table_is_aligned_and_its_texts_are_no_markup() -> None:
    table = text_table(["name", "pixels"], [["[red]a[/]", "1"], ["b", "1,000"]])
    assert table.splitlines() == [
        "name        pixels",
        "──────────────────",
        "[red]a[/]        1",
        "b            1,000",
    ]


def test_columns_can_be_left_and_wide_characters_take_two() -> None:
    rows = text_table(["a", "b", "c"], [["1", "道路", "x"], ["22", "to", "y"]], align="rll").splitlines()
    assert rows[2:] == [" 1   道路   x", "22   to     y"]


def test_what_rounds_to_nothing_has_no_sign_of_its_own() -> None:
    assert (decimal(-0.001, 2), decimal(-0.01, 2), percent(-1e-7)) == ("0.00", "-0.01", "0.00")
    assert (points_text(-1e-7), points_text(-1e-7, sign=True)) == ("0.00", "+0.00")
    assert points_text(-0.001, sign=True) == "-0.1"


def test_texts_in_a_markdown_table_stay_texts() -> None:
    names = ["a|b", "per,son: <x>", "*car*", "`sky`", "a\\|b", "test_efficientnet"]
    assert markdown_table(["name", "pixels"], [[name, "1"] for name in names]).splitlines() == [
        *("| name | pixels |", "|---|---|"),
        *(r"| a\|b | 1 |", r"| per,son: \<x> | 1 |", r"| \*car\* | 1 |", r"| \`sky\` | 1 |"),
        *(r"| a\\\|b | 1 |", "| test_efficientnet | 1 |"),
    ]


def test_times_are_spoken() -> None:
    assert [spoken_time(seconds) for seconds in (5.4, 89, 91, 3600, 12_000)] == [
        *("5 s", "89 s", "2 min", "60 min", "3 h 20 min")
    ]


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        text_table(["a", "b"], [["1"]])
    with pytest.raises(ValueError, match="zip"):
        text_table(["a", "b"], [], align="l")


def test_numbers_that_do_not_exist_are_a_dash() -> None:
    assert [decimal(2.345, 1), percent(0.12345), percent(math.nan)] == ["2.3", "12.35", "–"]
    assert [decimal(math.inf, 2)] == ["inf"]


def test_things_are_counted_and_listed() -> None:
    assert [counted(1, "pair"), counted(2, "pair"), counted(0, "class", "classes")] == [
        "1 pair",
        "2 pairs",
        "0 classes",
    ]
    assert [listed(words) for words in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
