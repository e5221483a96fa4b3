"""The interface over HTTP, and the whole application: our routes beside Gradio's page, behind a guard."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from crossband.errors import OptionError
from crossband.serve.guard import Application, Guard
from crossband.serve.page import appearance, make_page
from crossband.serve.refusing import Refused, refusing, shown_name
from crossband.serve.service import Service, Upload

_PIECE = 1 << 20
_BANDS = ("visible", "infrared")
_YES, _NO = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")


def check_installed() -> None:
    """Raise OptionError if Gradio is not there."""
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise OptionError(
            "gradio is not installed, which `crossband serve` needs: pip install 'crossband[serve]'"
        ) from error


def make_application(service: Service, folder: Path) -> Application:
    """An ASGI application with the page at ``/`` and the interface below ``/api``.

    folder: an empty one, for what is uploaded; Gradio takes it from the environment, so that a process holds
    one such application. Raises OptionError if Gradio is not installed.
    """
    check_installed()
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio
    from fastapi import FastAPI

    # Without FastAPI's own pages, which fetch scripts from elsewhere.
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    _add_routes(app, service, folder)
    app = gradio.mount_gradio_app(
        app,
        make_page(service, folder),
        path="/",
        show_error=False,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
        max_file_size=service.limits.file_bytes,
        app_kwargs={"docs_url": None, "redoc_url": None, "openapi_url": None},
        **appearance(),
    )
    return Guard(app, str(folder), service.limits.request_bytes)


def _add_routes(app: Any, service: Service, folder: Path) -> None:
    from starlette.background import BackgroundTask
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
    from starlette.responses import FileResponse, JSONResponse

    async def described(request: Request) -> Any:
        return JSONResponse(service.described())

    async def answered(request: Request) -> Any:
        async with _sent(request, service, folder, "system", "compare") as (form, images):
            visible, infrared = (_only(images[band], band) for band in _BANDS)
            answer = await run_in_threadpool(
                service.answer,
                visible,
                infrared,
                system=form.get("system"),
                compare=_yes(form.get("compare")),
            )
            return JSONResponse(await run_in_threadpool(answer.as_json))

    async def answered_all(request: Request) -> Any:
        # Beside what was sent, which is removed before the answer is on its way.
        place, out = tempfile.mkstemp(dir=folder, suffix=".zip")
        os.close(place)
        gone = BackgroundTask(Path(out).unlink, missing_ok=True)
        try:
            async with _sent(request, service, folder, "system") as (form, images):
                batch = await run_in_threadpool(
                    service.batch,
                    images["visible"],
                    images["infrared"],
                    Path(out),
                    system=form.get("system"),
                )
        except BaseException:
            Path(out).unlink(missing_ok=True)
            raise
        counts = {"x-pairs-done": str(batch.done), "x-pairs-failed": str(len(batch.failed))}
        return FileResponse(
            out, media_type="application/zip", filename="results.zip", headers=counts, background=gone
        )

    async def refused(request: Request, error: Any) -> Any:
        return JSONResponse({"error": str(error)}, status_code=error.status)

    app.add_exception_handler(Refused, refused)
    app.add_route("/api", described, methods=["GET"])
    app.add_route("/api/answer", answered, methods=["POST"])
    app.add_route("/api/batch", answered_all, methods=["POST"])


@asynccontextmanager
async def _sent(request: Any, service: Service, folder: Path, *fields: str) -> AsyncIterator[tuple[Any, Any]]:
    """The form of a request, and the images of each band in it, which lie in a folder for as long.

    fields: what it may hold besides these.
    """
    from starlette.exceptions import HTTPException

    with tempfile.TemporaryDirectory(dir=folder) as kept, refusing({}):
        try:
            # One more, so that too many are refused by the service, which says how many are taken.
            form = await request.form(max_files=2 * service.limits.pairs + 1)
        except HTTPException as error:
            raise Refused(str(error.detail)) from error
        try:
            taken = (*_BANDS, *fields)
            for field in form:
                if field not in taken:
                    raise Refused(f"there is no field {shown_name(field)!r}; there are {', '.join(taken)}")
            images: dict[str, list[Upload]] = {}
            for band in _BANDS:
                images[band] = []
                for number, one in enumerate(form.getlist(band)):
                    if not hasattr(one, "read"):
                        raise Refused(f"{band} is a text; send it as a file of a multipart form")
                    path = Path(kept) / f"{band}-{number}"
                    with path.open("wb") as file:
                        while piece := await one.read(_PIECE):
                            file.write(piece)
                    images[band].append(Upload(one.filename or f"{band}.png", path))
            yield form, images
        finally:
            await form.close()


def _only(images: list[Upload], band: str) -> Upload | None:
    if len(images) > 1:
        raise Refused(f"{len(images)} {band} images were sent; send one, or all to /api/batch")
    return images[0] if images else None


def _yes(text: str | None) -> bool:
    said = "" if text is None else text.lower()
    if said not in (*_YES, *_NO):
        raise Refused(f"compare is true or false, not {shown_name(said)!r}")
    return said in _YES
