"""Option values from YAML or the command line, held against the types that are declared for them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentError, ArgumentParser

from crossband.errors import OptionError, quoted

_WORDS = {int: "an integer", float: "a number", bool: "true or false", str: "a text", type(None): "null"}


def types_of(owner: Any) -> Mapping[str, Any]:
    """The type of each field of a dataclass or argument of a function, by name. Worked out once."""
    return _worked_out(owner)


_worked_out = cache(get_type_hints)


def check_types(owner: str, hints: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values, each as its type wants it: an integer for a number becomes a float, a list a tuple.

    owner: what has these options, for messages. hints: the type of each option; it must hold every name in
    values. Raises OptionError, naming the option, for a value of another type, and for NaN and infinity, also
    within a list: they mean nothing for any option, and a comparison with NaN would let it pass.
    """
    return {name: _converted(f"{owner}.{name}", hints[name], value) for name, value in values.items()}


def check_arguments(hints: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Raise OptionError, naming the argument, for a value that is not of its type as it stands.

    hints: the types of a function's arguments, of words, texts, numbers and truth values. Unlike in a file, a
    text is no number here, and "no" is not false.
    """
    for name, hint in hints.items():
        if name in values and not _is_plainly(values[name], hint):
            raise OptionError(f"{name} must be {spoken(hint)}, not {quoted(values[name])}")


def _converted(option: str, hint: Any, value: Any) -> Any:
    if value is None and not _takes_none(hint):
        raise OptionError(f"{option} must be {spoken(hint)}, not null")
    if _is_plainly(value, hint):
        return value
    try:
        converted = _parser(hint).parse_object({"value": value})["value"]
    except ArgumentError:
        raise OptionError(f"{option} must be {spoken(hint)}, not {quoted(value)}") from None
    if not _is_finite(converted):
        raise OptionError(f"{option} must be finite, not {quoted(value)}")
    return converted


@cache
def _parser(hint: Any) -> ArgumentParser:
    """What turns a value into a type. To make it takes longer than its work."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=hint)
    return parser


def _is_plainly(value: Any, hint: Any) -> bool:
    """Whether a value is of its type as it stands; a parser, which takes a millisecond, says the same."""
    if get_origin(hint) in (Union, UnionType):
        return any(_is_plainly(value, argument) for argument in get_args(hint))
    if get_origin(hint) is Literal:
        return any(type(value) is type(choice) and value == choice for choice in get_args(hint))
    if hint is float:
        return type(value) is float and math.isfinite(value)
    return hint in (int, str, bool, type(None)) and type(value) is hint


def _is_finite(value: Any) -> bool:
    """Whether no number in a value is NaN or infinite."""
    if isinstance(value, list | tuple):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _takes_none(hint: Any) -> bool:
    return hint is Any or hint is type(None) or type(None) in get_args(hint)


def spoken(hint: Any) -> str:
    """A type in words: "one of a, b", "[a number, a number] or null"."""
    arguments = get_args(hint)
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, arguments))}" if len(arguments) > 1 else str(arguments[0])
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(spoken(argument) for argument in arguments)
    if get_origin(hint) is tuple and Ellipsis not in arguments:
        return f"[{', '.join(map(spoken, arguments))}]"
    if hint is dict or get_origin(hint) is dict:
        return "a mapping of names"
    if arguments:
        return f"a list, each of it {spoken(arguments[0])}"
    return _WORDS.get(hint, f"a {getattr(hint, '__name__', hint)}".lower())
