"""CSK-Net (arXiv 2312.02240): both bands, or infrared alone at the cost of a DeepLabV3+."""

from crossband.systems.csknet.network import CSKNet

__all__ = ["CSKNet"]
