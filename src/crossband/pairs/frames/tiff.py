"""TIFFs of many pages, one frame a page."""

from __future__ import annotations

from pathlib import Path

import tifffile

from crossband.pairs.decoding import Stored, decode_page
from crossband.pairs.frames.base import Frames
from crossband.pairs.image_files import check_chain, check_page, errors_named

_MOST_PAGES = 100_000


class TiffFrames(Frames):
    """The pages of a TIFF, uncompressed or by deflate or PackBits.

    Raises PairError, naming the file, if its list of pages or the first of them is damaged.
    """

    def __init__(self, path: Path):
        with errors_named(path):
            with path.open("rb") as file:
                check_chain(file, _MOST_PAGES)
            with tifffile.TiffFile(path) as tiff:
                first = tiff.pages[0].aspage()
                check_page(first, tiff.filehandle.size)
                count, size = len(tiff.pages), (first.imagelength, first.imagewidth)
        super().__init__(path, count, size)

    def _read(self, index: int) -> Stored:
        if self._open is None:
            self._open = tifffile.TiffFile(self.path)
        page = self._open.pages[index].aspage()
        check_page(page, self._open.filehandle.size)
        return decode_page(page)
