"""Phases to trained weights: one generic Lightning module runs any phase of any system."""

from crossband.training.options import TrainOptions

__all__ = ["TrainOptions"]
