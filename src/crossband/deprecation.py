"""Old spellings of public names: each goes on working, and warns with the spelling to use."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def warn_old(old: str, new: str, *, stacklevel: int = 2) -> None:
    """Warn that ``new`` takes the place of ``old``. stacklevel: 2 is the line that called the caller."""
    warnings.warn(f"{old} is deprecated: use {new}", DeprecationWarning, stacklevel=stacklevel + 1)


def renamed_keyword(old: str, new: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator: the function takes the keyword ``old`` for ``new``, and warns.

    Raises TypeError where both are given.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def taking_both(*arguments: P.args, **keywords: P.kwargs) -> R:
            if old in keywords:
                if new in keywords:
                    raise TypeError(f"{old}= is the old spelling of {new}=: give one of them")
                warn_old(f"{function.__qualname__}({old}=...)", f"{new}=...")
                keywords[new] = keywords.pop(old)
            return function(*arguments, **keywords)

        return taking_both

    return decorate


def old_method(name: str, module: str, function: str) -> Callable[..., Any]:
    """A method that warns, and gives what ``function`` of ``module`` gives for the object.

    The module is imported when the method is called: it may stand above the one that has the class.
    """

    def method(self: Any, *arguments: Any, **keywords: Any) -> Any:
        warn_old(f"{type(self).__name__}.{name}", f"{module}.{function}")
        return getattr(importlib.import_module(module), function)(self, *arguments, **keywords)

    method.__doc__ = f"Deprecated: `{module}.{function}` takes its place."
    return method
