"""SegMiF (ICCV 2023): a fusion that is told what is where, and a segmentation of the picture."""

from crossband.systems.segmif.network import SegMiF

__all__ = ["SegMiF"]
