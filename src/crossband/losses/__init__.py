"""Training losses: pure functions on tensors, each with the equation it implements."""

from crossband.losses.contrastive import PixelSampling, pixel_contrast
from crossband.losses.distillation import feature_distillation, prediction_distillation, soft_cross_entropy
from crossband.losses.fusion import fusion_loss
from crossband.losses.segmentation import cross_entropy, dice, segmentation_loss, smoothed_dice

__all__ = [
    "PixelSampling",
    "cross_entropy",
    "dice",
    "feature_distillation",
    "fusion_loss",
    "pixel_contrast",
    "prediction_distillation",
    "segmentation_loss",
    "smoothed_dice",
    "soft_cross_entropy",
]
