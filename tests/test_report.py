"""Report pages: valid, self-contained, escaped, lossless for labels, and the same in every run."""

import base64
import io
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from crossband.errors import OptionError
from crossband.evaluation import BandResult, Evaluation
from crossband.metrics import segmentation_scores
from crossband.pairs.base import Classes
from crossband.pictures import colour_labels
from crossband.report import (
    Cell,
    Page,
    evaluation_page,
    learning_curves,
    per_class_iou_chart,
    write_evaluation,
)

NASTY = "a <b>&amp; \"c\" 'd' Straße $x_1$ 道路 </style><script>alert(1)</script>"
CLASSES = Classes(("road", NASTY, "sky"), ((0, 0, 0), (200, 0, 0), (0, 0, 200)))
VOID = {"meta", "img", "br", "hr", "link", "input", "wbr"}


class Tree(HTMLParser):
    """Checks that tags are closed in order and collects elements with their attributes and texts."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.texts = [], [], []
        self.feed(html)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def pictures_of(tree):
    """The decoded images of a page, with their alt texts and formats."""
    found = []
    for image in tree.all("img"):
        kind, data = re.fullmatch(r"data:image/(\w+);base64,(.+)", image["src"]).groups()
        found.append((image["alt"], kind, Image.open(io.BytesIO(base64.b64decode(data)))))
    return found


@pytest.fixture
def evaluation():
    day = torch.tensor([[50, 5, 0], [10, 35, 0], [0, 0, 0]])
    night = torch.tensor([[30, 20, 0], [25, 25, 0], [0, 0, 0]])
    results = {
        bands: BandResult(bands, support, day + night, {"day": day, NASTY: night})
        for bands, support in (("both", "designed"), ("visible", "fallback"))
    }
    counts = {"day": 2, NASTY: 1}
    provenance = {"command": f"crossband evaluate '{NASTY}'", "training": {"lr": 0.25}, "revision": None}
    return Evaluation("sys", NASTY, "test", CLASSES, 3, "float32", results, counts, provenance)


@pytest.fixture
def full_page(evaluation):
    page = evaluation_page(evaluation)
    page.heading(NASTY, level=3)
    page.paragraph(NASTY)
    page.code(NASTY)
    page.definitions({NASTY: NASTY})
    page.legend(CLASSES)
    page.table([NASTY, "x"], [[NASTY, Cell(NASTY, note=NASTY, badge=NASTY)]], caption=NASTY)
    page.image_grid([NASTY], [(NASTY, [np.zeros((2, 2, 3), np.uint8)])], caption=NASTY)
    curves = {NASTY: [{"epoch": 0, NASTY: 1.0}, {"epoch": 1, NASTY: 0.5}]}
    page.figure(learning_curves(curves), NASTY, NASTY)
    return page


def test_every_text_is_escaped_everywhere(full_page):
    tree = Tree(full_page.html())
    assert tree.all("script") == []
    assert tree.all("b") == []
    assert {image["alt"] for image in tree.all("img")} == {f"{NASTY}: {NASTY}"}
    # title, h1, h3, p, code, dt, dd, caption, note, badge, legend, cells, ...
    assert sum(NASTY in text for text in tree.texts) > 20


def test_nothing_is_fetched_from_anywhere(full_page):
    html = full_page.html()
    tree = Tree(html)
    for _, attributes in tree.elements:
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("data:", "#"))
    assert "@import" not in html
    assert not re.findall(r"https?://|url\((?!#)", html)
    policy = next(meta for meta in tree.all("meta") if "http-equiv" in meta)
    assert policy["content"].startswith("default-src 'none'")


def test_tables_name_their_columns_and_rows(full_page):
    tree = Tree(full_page.html())
    assert all(cell.get("scope") in ("col", "row", "rowgroup") for cell in tree.all("th"))
    assert len(tree.all("caption")) == len(tree.all("table"))
    assert all(region["tabindex"] == "0" and region["aria-label"] for region in tree.all("div"))
    assert all(drawing["role"] == "img" and drawing["aria-label"] for drawing in tree.all("svg"))


def test_ids_are_unique_and_every_reference_inside_the_page_is_met(full_page):
    html = full_page.html()
    ids = [attributes["id"] for _, attributes in Tree(html).elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    references = set(re.findall(r'(?:url\(|href=")#([^")]+)', html))
    assert references
    assert references <= set(ids)


def test_a_figures_texts_are_left_as_they_are(evaluation):
    name = 'id="x" #000000 url(#y)'
    classes = Classes((name, "b", "c"), CLASSES.palette)
    page = Page("t")
    page.figure(per_class_iou_chart({"x": evaluation.results["both"].overall}, classes), "c", "a")
    assert name in Tree(page.html()).texts


def test_figures_follow_the_light_or_dark_scheme(evaluation):
    page = Page("t")
    page.figure(per_class_iou_chart({"x": evaluation.results["both"].overall}, CLASSES), "c", "a")
    drawing = re.search(r"<svg.*</svg>", page.html(), re.DOTALL).group()
    assert "#000000" not in drawing
    assert "#ffffff" not in drawing


def test_the_same_page_is_written_every_time(evaluation):
    assert evaluation_page(evaluation).html() == evaluation_page(evaluation).html()


def test_label_pictures_are_lossless_and_photographs_small():
    rng = np.random.default_rng(0)
    palette = [tuple(colour) for colour in rng.integers(0, 256, (200, 3)).tolist()]
    labels = colour_labels(rng.integers(0, 200, (60, 80)).astype(np.uint8), palette)
    photo = rng.integers(0, 256, (60, 80, 3)).astype(np.uint8)
    infrared = np.tile(np.arange(80, dtype=np.uint8) * 3, (60, 1))
    page = Page("t")
    page.image_grid(["label", "photo", "infrared", "absent"], [("row", [labels, photo, infrared, None])])
    decoded = {
        alt: (kind, np.asarray(image.convert("RGB"))) for alt, kind, image in pictures_of(Tree(page.html()))
    }
    kind, pixels = decoded["row: label"]
    assert kind == "png"
    assert (pixels == labels).all()
    assert decoded["row: photo"][0] == "jpeg"
    kind, pixels = decoded["row: infrared"]
    assert kind == "jpeg"
    assert np.abs(pixels[..., 0].astype(int) - infrared).max() < 8
    assert "row: absent" not in decoded


def test_large_pictures_are_made_smaller_without_new_label_colours():
    labels = colour_labels((np.indices((300, 900)).sum(0) // 7 % 3).astype(np.uint8), CLASSES.palette)
    page = Page("t")
    page.image_grid(["label"], [("row", [labels])], max_side=100)
    ((_, _, image),) = pictures_of(Tree(page.html()))
    assert image.size == (100, 33)
    assert {colour for _, colour in image.convert("RGB").getcolors()} <= set(CLASSES.palette)


def test_rows_must_fit_the_header():
    page = Page("t")
    with pytest.raises(ValueError, match="zip"):
        page.table(["a", "b"], [["only one"]])
    with pytest.raises(ValueError, match="zip"):
        page.image_grid(["a", "b"], [("row", [None])])
    with pytest.raises(ValueError, match="level"):
        page.heading("x", level=1)


def test_confusion_cells_are_shares_of_the_truth(evaluation):
    # Truth "road" over both conditions: 80 right, 25 taken for the second class: 76 % and 24 %.
    html = evaluation_page(evaluation).html()
    cells = re.findall(r'<td class="(right|wrong)" style="--shade:([\d.]+)">(\d*)</td>', html)
    assert cells[0] == ("right", f"{math.sqrt(80 / 105):.3f}", "76")
    assert cells[1] == ("wrong", f"{math.sqrt(25 / 105):.3f}", "24")
    # The third class has no truth: no share, no shade. 2 rows of 3 cells, for 2 band combinations.
    assert len(cells) == 12


def test_the_page_tells_protocols_fallback_and_provenance(evaluation):
    tree = Tree(evaluation_page(evaluation, protocol="no-background").html())
    texts = [text.strip() for text in tree.texts]
    start = texts.index("bands")
    header = [text for text in texts[start : start + 9] if text]
    assert header[3] == "no-background"
    assert "fallback" in texts
    assert evaluation.provenance["command"] in tree.texts
    # Of what is kept beside the numbers, a mapping folds away under its name, and nothing is JSON.
    assert texts[texts.index("training") :][:3] == ["training", "lr", "0.25"]
    assert not any(text.startswith("{") for text in texts)
    assert "revision" not in texts
    mean = evaluation.results["both"].overall.protocols["all-zero"]
    assert f"{100 * mean.mean_iou:.2f}" in texts
    assert f"({mean.classes_averaged})" in texts
    with pytest.raises(OptionError, match="unknown protocol"):
        evaluation_page(evaluation, protocol="mean")


def test_write_evaluation_writes_all_four_files(evaluation, tmp_path):
    write_evaluation(evaluation, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"evaluation.{suffix}" for suffix in ("csv", "html", "json", "txt")
    ]
    assert json.loads((tmp_path / "evaluation.json").read_text("utf-8"))["source"] == NASTY
    assert (tmp_path / "evaluation.html").read_text("utf-8") == evaluation_page(evaluation).html()
    assert (tmp_path / "evaluation.html").stat().st_size < 200_000


def test_bars_are_as_long_as_the_scores():
    confusion = torch.tensor([[6, 2, 0], [0, 2, 0], [0, 0, 0]])
    scores = segmentation_scores(confusion)
    (axes,) = per_class_iou_chart({"one": scores, "two": scores}, CLASSES).axes
    # IoU 6/8, 2/4, and undefined, which has no bar but a dash.
    assert [bar.get_width() for bar in axes.containers[0]] == [75, 50, 0]
    assert [text.get_text() for text in axes.texts] == ["75.0", "50.0", "–"] * 2


def test_learning_curves_pass_over_what_was_not_logged():
    curves = {
        "a": [
            {"epoch": 0, "loss": 2.0},
            {"epoch": 1, "loss": math.nan, "miou": 0.5},
            {"epoch": 2, "loss": 1.0},
        ],
        "b": [{"epoch": 0, "loss": 3.0, "miou": None}],
    }
    figure = learning_curves(curves, panels={"loss": "Loss", "miou": "mIoU", "never": "Never"})
    loss, miou = figure.axes
    assert loss.lines[0].get_xydata().tolist() == [[0, 2], [2, 1]]
    assert loss.lines[1].get_xydata().tolist() == [[0, 3]]
    assert miou.lines[0].get_xydata().tolist() == [[1, 0.5]]
    assert len(miou.lines[1].get_xydata()) == 0
    with pytest.raises(OptionError, match="never"):
        learning_curves(curves, panels={"never": "Never"})


@pytest.mark.shared_data
def test_real_pictures_keep_a_page_small(shared_data):
    folder = shared_data / "msrs_pairs"
    visible = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.rglob("visible/*"))]
    infrared = [np.asarray(Image.open(path).convert("L")) for path in sorted(folder.rglob("infrared/*"))]
    if not visible:
        pytest.skip("msrs_pairs has no pictures")
    page = Page("t")
    page.image_grid(
        ["visible", "infrared"],
        [(str(index), images) for index, images in enumerate(zip(visible, infrared, strict=True))],
    )
    decoded = pictures_of(Tree(page.html()))
    assert len(decoded) == 2 * len(visible)
    assert len(page.html()) / len(decoded) < 150_000
    for (_, _, image), original in zip(decoded[::2], visible, strict=True):
        error = np.asarray(image).astype(float) - original
        assert 10 * math.log10(255**2 / np.mean(error**2)) > 33, "PSNR in dB"
