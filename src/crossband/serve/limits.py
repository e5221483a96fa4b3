"""What one request may ask of a server."""

from __future__ import annotations

from dataclasses import dataclass, fields

from crossband.errors import OptionError


@dataclass(frozen=True)
class Limits:
    """megabytes: of one file, in 10^6 bytes. megapixels: of one image, in 10^6 pixels. pairs: at once.

    seconds: from a request to its answer, waiting for other requests included.
    """

    megabytes: float = 50.0
    megapixels: float = 16.0
    pairs: int = 50
    seconds: float = 120.0

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            # Written so that NaN fails too.
            if not (0 < value < float("inf")):
                raise OptionError(f"--max_{one.name} must be above 0, not {value}")

    @property
    def file_bytes(self) -> int:
        """The most bytes of one file."""
        return int(self.megabytes * 1e6)

    @property
    def request_bytes(self) -> int:
        """The most bytes of one request: two files for each pair, and what a form needs beside them."""
        return 2 * self.pairs * (self.file_bytes + _FORM_BYTES)

    def __str__(self) -> str:
        return (
            f"{self.megabytes:g} MB a file, {self.megapixels:g} megapixels an image, {self.pairs} pairs at "
            f"once, {self.seconds:g} s a request"
        )


_FORM_BYTES = 4096
