"""The page of a service, by Gradio: a thin layer that hands files in and shows what comes back."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crossband.card_words import system_words
from crossband.serve.drawing import STYLE, answer_html, batch_html, error_html
from crossband.serve.refusing import Refused
from crossband.serve.service import Service, Upload
from crossband.text import listed

_WAITING = 20
_KEPT = 3600
"""Seconds for which uploads are kept."""


def make_page(service: Service, folder: Path) -> Any:
    """The page as Gradio's ``Blocks``. folder: for archives, which Gradio may give out."""
    import gradio

    def answered(system: str | None, visible: str | None, infrared: str | None) -> str:
        try:
            return answer_html(service.answer(_one(visible), _one(infrared), system=system, compare=True))
        except Refused as refused:
            return error_html(str(refused))

    def answered_all(
        system: str | None, visible: list[str] | None, infrared: list[str] | None
    ) -> tuple[str, Any]:
        out = Path(tempfile.mkdtemp(dir=folder)) / "results.zip"
        try:
            batch = service.batch(_every(visible), _every(infrared), out, system=system)
        except Refused as refused:
            return error_html(str(refused)), gradio.DownloadButton(visible=False)
        return batch_html(batch), gradio.DownloadButton(value=str(out), visible=True)

    names = service.names
    listening: dict[str, Any] = {"api_visibility": "private", "concurrency_limit": 4}
    with gradio.Blocks(
        title="Crossband", analytics_enabled=False, delete_cache=(_KEPT // 6, _KEPT), fill_width=False
    ) as page:
        gradio.Markdown(f"# Crossband\n{about(service)}")
        system = gradio.Dropdown(
            names, value=names[0], label="System", visible=len(names) > 1, elem_id="system"
        )
        with gradio.Tab("One pair"):
            with gradio.Row():
                visible, infrared = (
                    gradio.File(label=f"{band} image (may be left out)", height=150, elem_id=f"{band}-one")
                    for band in ("Visible", "Infrared")
                )
            button = gradio.Button("Answer", variant="primary", elem_id="answer")
            shown = gradio.HTML(elem_id="answer-shown")
            button.click(answered, [system, visible, infrared], shown, **listening)
        with gradio.Tab("Many pairs"):
            gradio.Markdown(
                "Images of one name are a pair, whatever their suffix. The results come as one zip."
            )
            with gradio.Row():
                many = [
                    gradio.File(
                        label=f"{band} images", file_count="multiple", height=200, elem_id=f"{band}-many"
                    )
                    for band in ("Visible", "Infrared")
                ]
            start = gradio.Button("Answer all", variant="primary", elem_id="answer-all")
            told = gradio.HTML(elem_id="batch-shown")
            archive = gradio.DownloadButton("Download the results (zip)", visible=False, elem_id="archive")
            start.click(answered_all, [system, *many], [told, archive], **listening)
    page.queue(max_size=_WAITING)
    return page


def appearance() -> dict[str, Any]:
    """How Gradio is to draw the page: with the fonts of the system, since none is fetched."""
    import gradio

    sans = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
    theme = gradio.themes.Base(font=sans, font_mono=["ui-monospace", "monospace"], primary_hue="blue")
    return {"theme": theme, "css": STYLE}


def about(service: Service) -> str:
    """What is served, in Markdown."""
    told = []
    for one in service.described()["systems"]:
        makes = listed(
            [what for what, so in (("labels", one["segments"]), ("fused pictures", one["fuses"])) if so]
        )
        bands = ", ".join(f"{bands} ({kind})" for bands, kind in one["bands"].items())
        system = system_words(one["system"], one["variant"])
        told.append(f"- `{one['name']}` ({system}) makes {makes} from: {bands}")
    lines = "\n".join(told)
    return f"{lines}\n\nRadiometric JPEG and 16-bit TIFF are read as they are. Limits: {service.limits}."


def _one(path: str | None) -> Upload | None:
    return None if path is None else Upload(Path(path).name, Path(path))


def _every(paths: Sequence[str] | None) -> list[Upload]:
    return [Upload(Path(path).name, Path(path)) for path in paths or ()]
