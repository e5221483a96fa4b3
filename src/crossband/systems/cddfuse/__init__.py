"""CDDFuse (CVPR 2023): fusion by what the bands share and what they do not."""

from crossband.systems.cddfuse.network import CDDFuse

__all__ = ["CDDFuse"]
