"""What libtiff says of damaged files, which it would write to standard error by itself."""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from crossband.errors import PairError

# void (*)(const char *module, const char *format, va_list arguments); the last one is never looked at.
_Handler = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)

_said = threading.local()


@_Handler
def _keep(module: bytes, format: bytes, arguments: int) -> None:
    _said.wrong = True


@_Handler
def _pass_over(module: bytes, format: bytes, arguments: int) -> None:
    pass


@functools.cache
def _take_over() -> None:
    """Hand Pillow's libtiff handlers of ours, for as long as the process lives: it has one pair for all."""
    try:
        library = ctypes.CDLL(Image.core.__file__)
        handlers = library.TIFFSetErrorHandler, library.TIFFSetWarningHandler
    except (OSError, AttributeError):
        return  # A Pillow without libtiff, or one that hides it: it goes on saying what it says.
    for set_handler, handler in zip(handlers, (_keep, _pass_over), strict=True):
        set_handler.argtypes, set_handler.restype = [_Handler], ctypes.c_void_p
        set_handler(handler)


@contextmanager
def libtiff_heard() -> Iterator[None]:
    """Raise PairError at the end of the block if libtiff complained of an error, though Pillow went on.

    Its warnings, of tags that it does not know and the like, go nowhere.
    """
    _take_over()
    _said.wrong = False
    yield
    if _said.wrong:
        raise PairError("cannot be read, truncated or damaged (libtiff found errors in it); copy it again")
