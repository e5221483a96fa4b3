"""Commands that must be refused, as tests see them."""

from __future__ import annotations

import pytest

from crossband.cli import main


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a refused command says, which is one line on standard error and nothing else."""
    try:
        code = main(arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1, err
    assert err.startswith("crossband: error: ")
    return err.removeprefix("crossband: error: ").rstrip("\n")
