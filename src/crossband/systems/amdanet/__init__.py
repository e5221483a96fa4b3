"""AMDANet (ICCV 2025): segmentation and fusion by aligning what the bands disagree on."""

from crossband.systems.amdanet.network import AMDANet

__all__ = ["AMDANet"]
