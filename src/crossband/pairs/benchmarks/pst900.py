"""PST900 (ICRA 2020): RGB and thermal underground, for search and rescue robots."""

from crossband.pairs.base import Classes
from crossband.pairs.benchmarks.declaration import Benchmark, Layout, Split

PST900 = Benchmark(
    key="pst900",
    title="PST900",
    classes=Classes(
        names=("background", "fire extinguisher", "backpack", "hand drill", "survivor"),
        # The authors' toolkit lists BGR triplets (it shows them with OpenCV); these are their colours in RGB.
        palette=((0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)),
    ),
    layouts=(
        Layout(
            name="official",
            visible="{split}/rgb/{name}",
            infrared="{split}/thermal/{name}",
            label="{split}/labels/{name}",
            other_infrared={"thermal_raw": "{split}/thermal_raw/{name}"},
        ),
    ),
    splits={"train": Split((597, 606)), "test": Split((288,))},
    resolution=(720, 1280),
    infrared="thermal: 8-bit grey after the camera's gain control; thermal_raw: 16-bit as measured",
    citation=(
        "S. S. Shivakumar, N. Rodrigues, A. Zhou, I. D. Miller, V. Kumar, C. J. Taylor. PST900: RGB-Thermal "
        "Calibration, Dataset and Segmentation Network. ICRA 2020."
    ),
    url="https://github.com/ShreyasSkandanS/pst900_thermal_rgb",
    terms="The repository is under GPL-3.0; it states no terms of its own for the images.",
    quirks=(
        "The authors' README says 606 training pairs, published work uses 597: say how many yours has.",
        "Some repositories (MRFS, AMDANet) swap the names of ids 1 and 3: the mean IoU is the same, tables "
        "by class are not. The order here is the authors'.",
        "Infrared is warped onto the visible image and has holes of value 0, which the authors inpaint "
        "before use; Crossband reads them as they are.",
        "pst900:PATH,infrared=thermal_raw reads the 16-bit measurements. They fill a small part of their "
        "range: use a scaling rule such as percentile(1, 99) with them.",
        "Papers score it at 720 x 1280, 640 x 1280 or 360 x 640, the last two on resized labels: not "
        "comparable.",
        "There is no official validation split: hold one out of train, never out of test.",
    ),
)
