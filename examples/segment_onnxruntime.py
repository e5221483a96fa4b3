"""Segment images with an exported file on ONNX Runtime alone: no Crossband, no PyTorch.

    pip install onnxruntime pillow numpy
    python examples/segment_onnxruntime.py infrared.onnx OUT image.png [image.png ...]

All that it needs to know is in the file's metadata. For a file of both bands, give pairs: VISIBLE:INFRARED.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

model, out, *images = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
card = json.loads(session.get_modelmeta().custom_metadata_map["crossband"])
palette = [bytes.fromhex(colour[1:]) for colour in card["run"]["classes"]["palette"]]
Path(out).mkdir(parents=True, exist_ok=True)
for given in images:
    arrays = {}
    for band, path in zip(card["types"], given.split(":"), strict=True):
        # As the camera stores it: the scaling, the padding and the rest are in the graph.
        picture = Image.open(path)
        array = np.asarray(picture.convert("RGB") if band == "visible" else picture)
        arrays[band] = array.astype(card["types"][band])[np.newaxis]
    labels, confidence = session.run(["labels", "confidence"], arrays)
    picture = Image.fromarray(labels[0])
    picture.putpalette(b"".join(palette))
    picture.save(Path(out) / f"{Path(given.split(':')[0]).stem}.png")
    print(f"{given}: mean confidence {confidence.mean():.3f}, classes {np.unique(labels).tolist()}")
