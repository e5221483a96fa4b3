"""MFNet's dataset (ir_seg_dataset, IROS 2017), and the classes that MSRS takes over from it."""

from crossband.pairs.base import Classes
from crossband.pairs.benchmarks.declaration import Benchmark, Layout, Split

MFNET_CLASSES = Classes(
    names=("unlabelled", "car", "person", "bike", "curve", "car stop", "guardrail", "color cone", "bump"),
    palette=(
        (0, 0, 0),
        (64, 0, 128),
        (64, 64, 0),
        (0, 128, 192),
        (0, 0, 192),
        (128, 128, 0),
        (64, 64, 128),
        (192, 128, 128),
        (192, 64, 0),
    ),
)

_LISTS = {"train": "train.txt", "val": "val.txt", "test": "test.txt"}
_DAY_NIGHT = {"test_day": "test_day.txt", "test_night": "test_night.txt"}

MFNET = Benchmark(
    key="mfnet",
    title="MFNet (ir_seg_dataset)",
    classes=MFNET_CLASSES,
    layouts=(
        Layout(
            name="original",
            visible="images/{name}",
            infrared="images/{name}",
            label="labels/{name}",
            lists=_LISTS | _DAY_NIGHT,
        ),
        Layout(
            name="CMX, RoadSeg",
            visible="RGB/{name}",
            infrared="Thermal/{name}",
            label="Label/{name}",
            lists=_LISTS | _DAY_NIGHT,
        ),
        Layout(
            name="Sigma",
            visible="RGB/{name}",
            infrared="Modal/{name}",
            label="Label/{name}",
            lists={"train+val": "train2.txt"} | _LISTS,
            note=(
                "train2.txt is train and val together (1176 pairs): a system trained on it is not comparable "
                "with one trained on the 784 of train."
            ),
        ),
        Layout(
            name="CMNeXt",
            visible="rgb/{name}",
            infrared="ther/{name}",
            label="labels/{name}",
            lists=_LISTS,
            note="Images of this repack are JPEG: not the pixels of the original.",
        ),
        Layout(
            name="StitchFusion",
            visible="img/{name}",
            infrared="ther/{name}",
            label="labels/{name}",
            lists=_LISTS,
        ),
        Layout(
            name="MRFS",
            visible="visible/{name}",
            infrared="infrared/{name}",
            label="label/{name}",
            lists=_LISTS,
        ),
        Layout(
            name="AMDANet",
            visible="Visible/{name}",
            infrared="Infrared/{name}",
            label="Label/{name}",
            lists=_LISTS,
        ),
        Layout(
            name="DiFusionSeg",
            visible="{split}/vi/{name}",
            infrared="{split}/ir/{name}",
            label="{split}/Segmentation_labels/{name}",
        ),
    ),
    splits={
        "train": Split((784,)),
        "val": Split((392,)),
        "test": Split((393,)),
        "test_day": Split(within="test"),
        "test_night": Split(within="test"),
    },
    resolution=(480, 640),
    infrared="8-bit; the fourth channel of the original RGBA files, three equal channels in repacks",
    citation=(
        "Q. Ha, K. Watanabe, T. Karasawa, Y. Ushiku, T. Harada. MFNet: Towards Real-Time Semantic "
        "Segmentation for Autonomous Vehicles with Multi-Spectral Scenes. IROS 2017."
    ),
    url="https://www.mi.t.u-tokyo.ac.jp/static/projects/mil_multispectral/",
    terms="The authors state none; treat it as for research only.",
    research_only=True,
    quirks=(
        "The original files have four channels: a reader that drops the fourth loses the infrared band.",
        "make_flip.py writes mirrored copies (NAME_flip) beside the images; Crossband reads the lists and "
        "skips these.",
        "Id 0, unlabelled, counts in published results; leaving it out costs about 4.5 points of mIoU.",
        "In test, the guardrail occurs in four images only (01236N to 01239N), and neighbouring frames label "
        "the same object car stop: its IoU, a ninth of the mean, is close to a coin toss.",
        "125 pairs are misaligned (the ones that MSRS leaves out).",
        "Some published results train on train and val together (1176 pairs; the split train+val here).",
    ),
    suffix_conditions={"D": "day", "N": "night"},
    split_conditions={"test_day": "day", "test_night": "night"},
    skip=("*_flip",),
    shares_images_with=("msrs",),
)
