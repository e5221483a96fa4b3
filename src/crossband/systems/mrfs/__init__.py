"""MRFS (CVPR 2024): a segmentation and a fusion that help each other."""

from crossband.systems.mrfs.network import MRFS

__all__ = ["MRFS"]
