"""MMANet (CVPR 2023): both bands or either alone, taught by a network that has both."""

from crossband.systems.mmanet.network import MMANet

__all__ = ["MMANet"]
