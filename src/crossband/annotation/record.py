"""What was given to an annotation tool: ``crossband.json``, by which corrected masks find their pairs."""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import asdict, dataclass
from pathlib import Path

from crossband.annotation.labels import ToolLabel
from crossband.errors import OptionError
from crossband.pairs.base import Classes
from crossband.pairs.writing import write_text
from crossband.version import __version__
from crossband.words import TOOLS, Band, Tool

RECORD_NAME = "crossband.json"
_LONGEST_SLUG = 60


@dataclass(frozen=True)
class Item:
    """A pair, and the name that its files have in the tool: letters, digits, - and _ alone."""

    file: str
    split: str
    pair: str
    height: int
    width: int


@dataclass(frozen=True)
class Record:
    """Where annotated pairs come from. of: the source, or the folder of results, as it was given.

    results: whether it is such a folder. rig, frame: those that results were made with.
    """

    tool: Tool
    of: str
    results: bool
    infrared_scaling: str
    classes: Classes
    labels: tuple[ToolLabel, ...]
    items: tuple[Item, ...]
    rig: str | None = None
    frame: Band | None = None

    def write(self, folder: Path) -> None:
        write_text(
            folder / RECORD_NAME,
            json.dumps({**asdict(self), "crossband": __version__}, indent=1, ensure_ascii=False) + "\n",
        )


def read_record(folder: Path) -> Record:
    """The record of a folder that was written for a tool. Raises OptionError without a good one."""
    path = folder / RECORD_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise OptionError(
            f"{path}: cannot be read ({error.strerror}); give the folder that `crossband data annotate` wrote"
        ) from error
    try:
        told = json.loads(text)
        palette = tuple((red, green, blue) for red, green, blue in told["classes"]["palette"])
        classes = Classes(tuple(told["classes"]["names"]), palette)
        labels = tuple(
            ToolLabel(
                int(one["id"]), str(one["name"]), (one["colour"][0], one["colour"][1], one["colour"][2])
            )
            for one in told["labels"]
        )
        items = tuple(Item(**one) for one in told["items"])
        if told["tool"] not in TOOLS:
            raise ValueError("unknown tool")
        fields = {name: told[name] for name in ("tool", "of", "results", "infrared_scaling", "rig", "frame")}
        return Record(classes=classes, labels=labels, items=items, **fields)
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise OptionError(
            f"{path} is damaged ({type(error).__name__}); write it again with `crossband data annotate`"
        ) from error


def file_name(number: int, pair: str) -> str:
    """The name of a pair's files in a tool: its number, and what is plain in its name.

    Tools change spaces, dots, slashes and letters that are not ASCII, each in its own way.
    """
    plain = unicodedata.normalize("NFKD", pair).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^A-Za-z0-9]+", "_", plain).strip("_")[:_LONGEST_SLUG]
    return f"{number:06}_{slug}" if slug else f"{number:06}"
