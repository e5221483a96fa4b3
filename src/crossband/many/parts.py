"""A long list of pairs cut into parts, and the folder that says how."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from crossband.errors import OptionError
from crossband.pairs.writing import write_text

PARTS_NAME = "parts.json"


@dataclass(frozen=True)
class Cut:
    """How a list of pairs is cut: parts of `size` pairs that follow each other, the last with the rest.

    task: what is done with a part. run: what does it, with the hash of its weights. source, split: of the
    pairs; None is all that do not repeat others. pairs: how many they are.
    how: what else decides the results, by the name of its option, as JSON has it; "files" is a hash of the
    pairs' files.
    """

    task: str
    run: str
    weights_sha256: str | None
    source: str
    split: str | None
    pairs: int
    size: int
    how: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return -(-self.pairs // self.size)

    def part(self, index: int) -> range:
        """The numbers of a part's pairs in the list."""
        return range(index * self.size, min((index + 1) * self.size, self.pairs))

    def names(self) -> Iterator[str]:
        """What each part is called."""
        return map(name_of, range(len(self)))


def name_of(index: int) -> str:
    """What a part is called: names sort as the parts follow each other, up to a million of them."""
    return f"part-{index:06d}"


def settle(out: Path, cut: Cut) -> None:
    """Write into a folder how a list is cut for it, or hold that against what it says already.

    Raises OptionError where the parts that are there were cut otherwise, or are of something else, and if
    the folder cannot be written to.
    """
    path = out / PARTS_NAME
    asked = asdict(cut)
    asked |= asked.pop("how")
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        write_text(path, json.dumps(asked, indent=2) + "\n")
        return
    except (OSError, ValueError) as error:
        raise OptionError(f"{path} cannot be read ({error}); choose another folder") from error
    if not isinstance(there, dict):
        raise OptionError(f"{path} does not say how a list was cut; choose another folder")
    differing = next((name for name, value in asked.items() if there.get(name) != value), None)
    if differing == "files" and there.get("files") is not None:
        raise OptionError(
            f"{out} holds parts of pairs of which a file has changed since; choose another folder"
        )
    if differing is not None:
        raise OptionError(
            f"{out} holds parts of which {differing} is {there.get(differing)!r}, not {asked[differing]!r}; "
            "choose another folder, or ask for the same"
        )
