"""Names that the command line and the library share. Nothing heavy is imported here."""

from __future__ import annotations

from typing import Literal, get_args

Precision = Literal["float32", "bfloat16", "float16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
"""Of a system's forward pass under autocast, "float32" being without."""
