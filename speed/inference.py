"""Time of inference on both bands, on infrared alone and of the baseline, against plain smp."""

from __future__ import annotations

import torch

from crossband.info import count_flops
from crossband.systems import create
from crossband.systems.base import System
from crossband.systems.csknet.network import CSKNet
from crossband.words import Bands
from measuring import Rates, Row, Settings, compare, milliseconds, time_in_turn
from reference import CLASSES, REFERENCE, make_batch, normalised, plain_network

TOLERANCE = 1e-4
"""Most that the logits of CSK-Net's infrared branch and of plain smp may differ by, in float32."""


@torch.inference_mode()
def time_rows(settings: Settings, rates: Rates) -> list[Row]:
    """Ours from images in [0, 1]; plain smp from an image that is normalised already.

    The reference holds the weights of CSK-Net's infrared branch, and must give the same logits: what is
    compared is the same computation. Raises RuntimeError if it is not.
    """
    batch = make_batch(settings)
    visible, infrared = batch.visible, batch.infrared
    assert infrared is not None
    csknet = create("csknet", classes=CLASSES, encoder=settings.encoder).to(settings.device).eval()
    assert isinstance(csknet, CSKNet)
    baseline = create("deeplabv3plus", classes=CLASSES, encoder=settings.encoder).to(settings.device).eval()
    plain = plain_network(settings).eval()
    plain.load_state_dict(csknet.infrared.state_dict())
    image = normalised(infrared, settings.encoder)
    difference = (csknet(infrared=infrared).logits - plain(image)).abs().max().item()
    if not difference < TOLERANCE:
        raise RuntimeError(f"infrared alone and {REFERENCE} give logits that differ by {difference:.2g}")
    runs = {
        REFERENCE: lambda: plain(image),
        "DeepLabV3+": lambda: baseline(visible=visible),
        "CSK-Net, infrared alone": lambda: csknet(infrared=infrared),
        "CSK-Net, both bands": lambda: csknet(visible, infrared),
    }
    seconds = time_in_turn(runs, settings)
    systems: dict[str, tuple[System, Bands]] = {
        "DeepLabV3+": (baseline, "visible"),
        "CSK-Net, infrared alone": (csknet, "infrared"),
        "CSK-Net, both bands": (csknet, "both"),
    }
    floors = {
        name: rates.of_operations(settings.batch_size * count_flops(system, bands, settings.size))
        for name, (system, bands) in systems.items()
    }
    return compare("inference", seconds, REFERENCE, milliseconds, "less", floors)
