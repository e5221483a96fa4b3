"""Masks from boxes or points by a segment-anything model of transformers: what labels_from_boxes.py is given.

MODEL=facebook/sam-vit-base python examples/labels_from_boxes.py my-pairs/train boxes.csv sam

Any model will do that a function like this can be written for. Its licence is the model's own.
"""

import os
from functools import cache
from typing import Any

import numpy as np
import torch
from transformers import SamModel, SamProcessor


@cache
def loaded() -> tuple[Any, Any]:
    name = os.environ["MODEL"]
    return SamModel.from_pretrained(name).eval(), SamProcessor.from_pretrained(name)


def segment(picture: np.ndarray, prompt: list[float]) -> tuple[np.ndarray, float]:
    """The mask, bool (H, W), of what a box [left, top, right, bottom] or a point [x, y] means, and how sure
    the model is of it, in about [0, 1]. picture: uint8 (H, W, 3)."""
    model, processor = loaded()
    given = {"input_boxes": [[prompt]]} if len(prompt) == 4 else {"input_points": [[[prompt]]]}
    inputs = processor(picture, **given, return_tensors="pt")
    with torch.no_grad():
        output = model(**inputs)
    sizes = inputs["original_sizes"], inputs["reshaped_input_sizes"]
    masks = processor.image_processor.post_process_masks(output.pred_masks, *sizes)[0][0]
    best = int(output.iou_scores[0, 0].argmax())
    return masks[best].numpy(), float(output.iou_scores[0, 0, best])
