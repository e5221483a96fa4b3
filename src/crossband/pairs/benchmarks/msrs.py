"""MSRS, Multi-Spectral Road Scenarios (Information Fusion 2022)."""

from crossband.pairs.benchmarks.declaration import Benchmark, Layout, Split
from crossband.pairs.benchmarks.mfnet import MFNET_CLASSES

MSRS = Benchmark(
    key="msrs",
    title="MSRS (Multi-Spectral Road Scenarios)",
    classes=MFNET_CLASSES,
    layouts=(
        Layout(
            name="authors",
            visible="{split}/vi/{name}",
            infrared="{split}/ir/{name}",
            label="{split}/Segmentation_labels/{name}",
        ),
    ),
    splits={"train": Split((1083,)), "test": Split((361,))},
    resolution=(480, 640),
    infrared="8-bit grey, one channel, contrast-enhanced by the authors",
    citation=(
        "L. Tang, J. Yuan, H. Zhang, X. Jiang, J. Ma. PIAFusion: A progressive infrared and visible image "
        "fusion network based on illumination aware. Information Fusion 83-84, 2022."
    ),
    url="https://github.com/Linfeng-Tang/MSRS",
    terms="The repository states none.",
    quirks=(
        "It is MFNet without 125 misaligned pairs, under the same names but split otherwise. The infrared "
        "differs (enhanced).",
        "Id 0, unlabelled, counts in nine-class results. Fusion papers report a mean over six classes: both "
        "look like 78 to 80.",
        "Labels were drawn on the visible image; some objects are not labelled (cars in 00012N, 00013N).",
        "There is no official validation split: hold one out of train, never out of test.",
        "The folder detection/ (80 pairs with boxes) is not part of segmentation and is not read.",
    ),
    suffix_conditions={"D": "day", "N": "night"},
    shares_images_with=("mfnet",),
)
