"""DisOptNet (TGRS 2022): infrared alone, taught by the visible image."""

from crossband.systems.disoptnet.network import DisOptNet

__all__ = ["DisOptNet"]
