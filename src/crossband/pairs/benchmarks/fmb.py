"""FMB, Full-time Multi-modality Benchmark (ICCV 2023). Names and palette: issue 10 of its repository."""

from crossband.pairs.base import Classes
from crossband.pairs.benchmarks.declaration import Benchmark, Layout, Split

FMB = Benchmark(
    key="fmb",
    title="FMB (Full-time Multi-modality Benchmark)",
    classes=Classes(
        names=(
            "unlabelled",
            "road",
            "sidewalk",
            "building",
            "traffic light",
            "traffic sign",
            "vegetation",
            "sky",
            "person",
            "car",
            "truck",
            "bus",
            "motorcycle",
            "bicycle",
            "pole",
        ),
        palette=(
            (0, 0, 0),
            (179, 228, 228),
            (181, 57, 133),
            (67, 162, 177),
            (200, 178, 50),
            (132, 45, 199),
            (66, 172, 84),
            (179, 73, 79),
            (76, 99, 166),
            (66, 121, 253),
            (137, 165, 91),
            (155, 97, 152),
            (105, 153, 140),
            (222, 215, 158),
            (135, 113, 90),
        ),
        ignore=(0,),
    ),
    layouts=(
        Layout(
            name="official",
            visible="{split}/Visible/{name}",
            infrared="{split}/Infrared/{name}",
            label="{split}/Label/{name}",
        ),
        Layout(
            name="MRFS, AMDANet",
            visible="Visible/{name}",
            infrared="Infrared/{name}",
            label="Label/{name}",
            lists={"train": "train.txt", "test": "test.txt"},
            note="The lists of this repack were made by its authors; the official split is by folder.",
        ),
    ),
    splits={"train": Split((1220,)), "test": Split((280,))},
    resolution=(600, 800),
    infrared="8-bit, three equal channels",
    citation=(
        "J. Liu, Z. Liu, G. Wu, L. Ma, R. Liu, W. Zhong, Z. Luo, X. Fan. Multi-interactive Feature Learning "
        "and a Full-time Multi-modality Benchmark for Image Fusion and Segmentation. ICCV 2023."
    ),
    url="https://github.com/JinyuanLiu-CV/SegMiF",
    terms="The repository states none.",
    quirks=(
        "Bicycle (id 13) has no pixel in the test labels: a mean that counts absent classes as 0 or drops "
        "NaN moves by a fourteenth (a fifteenth with ignore=none) on one stray pixel. Never quote FMB "
        "without naming the protocol.",
        "Id 0, unlabelled (1.8 % of the pixels), is ignored here by default; fmb:PATH,ignore=none counts it, "
        "as about half of the published results do.",
        "Labels resized with a smoothing filter hold ids 15 and 16 that do not exist.",
        "There is no official validation split: hold one out of train, never out of test.",
        "The folder color/ (painted labels) is not read.",
    ),
)
