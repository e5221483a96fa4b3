"""What options mean, read from the docstring that declares them: the one place where it is written.

A docstring of ours says ``name: text.`` or ``name, other: text.``, several in a paragraph if they are short.
A text that only points to another docstring, as "see `Other`" or "as in `Other`", is filled in from there.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

_REFERENCE = re.compile(r"(?:see|as in) `([\w.]+)`")
"""At the beginning of a text; further on it leads to more, and the text itself says what the option is."""


def option_words(owner: Any, names: Iterable[str]) -> dict[str, str]:
    """By option, what the docstring of a class or function says of it, in one line; those that it passes
    over are left out.

    names: of all options. Where the docstring names several together, one that is not among them makes none
    of them count.

    >>> class Paint:
    ...     '''colour: of the wall. coats, hours: what drying
    ...     asks for.'''
    >>> option_words(Paint, ["colour", "coats", "hours", "price"])
    {'colour': 'of the wall', 'coats': 'what drying asks for', 'hours': 'what drying asks for'}
    """
    known = set(names)
    told = _entries(owner, known)
    return {name: _filled_in(owner, name, told[name]) for name in names if name in told}


def _entries(owner: Any, names: set[str]) -> dict[str, str]:
    """The texts of a docstring's entries whose names are all among ``names``."""
    told: dict[str, str] = {}
    for paragraph in re.split(r"\n\s*\n", inspect.getdoc(owner) or ""):
        text = " ".join(paragraph.split())
        heads = [
            head
            for head in re.finditer(r"(?:^|(?<=[.;)] ))(\w+(?:, \w+)*): ", text)
            if set(head[1].split(", ")) <= names
        ]
        ends = [*(head.start() for head in heads[1:]), len(text)][: len(heads)]
        for head, end in zip(heads, ends, strict=True):
            said = text[head.end() : end].partition(" Raises ")[0].strip().removesuffix(".")
            told |= dict.fromkeys(head[1].split(", "), said)
    return told


def _filled_in(owner: Any, name: str, text: str) -> str:
    """A text with what another docstring says of the option in place of a pointer to it, where it says it."""
    found = _REFERENCE.match(text)
    other = _object(owner, found[1]) if found else None
    if found is None or other is None:
        return text
    # An option of a part may have the part's name before the part's own name for it.
    parts = name.split("_")
    for start in range(len(parts)):
        short = "_".join(parts[start:])
        said = option_words(other, _parameters(other) | {short}).get(short)
        if said is not None:
            return (said + text[found.end() :]).strip()
    return text


def _object(owner: Any, name: str) -> Any:
    """What a name means where a docstring stands; None for nothing that can be looked up."""
    there: Mapping[str, Any] = vars(sys.modules[owner.__module__])
    first, *rest = name.split(".")
    found = there.get(first)
    for part in rest:
        found = getattr(found, part, None)
    return found


def _parameters(owner: Any) -> set[str]:
    try:
        return set(inspect.signature(owner).parameters)
    except (TypeError, ValueError):
        return set()
