"""A web application on a port, until it is interrupted."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

from crossband.errors import OptionError
from crossband.serve.http import check_installed, make_application
from crossband.serve.service import Service

_PATIENCE = 1
"""Seconds that open pages are given when it ends: they hold their connection for as long as they are open."""


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens. port: 0 takes any that is free. Raises OptionError if it cannot be had."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise OptionError(
            f"cannot listen on port {port} of {host}: {getattr(error, 'strerror', None) or error}; give "
            "another --port or --host"
        ) from error


def serve(service: Service, at: socket.socket, ready: Callable[[], None] = lambda: None) -> None:
    """Answer until SIGINT or SIGTERM, which are then raised again. ready: called when requests are taken.

    Raises OptionError if Gradio is not installed.
    """
    check_installed()
    import uvicorn

    with tempfile.TemporaryDirectory(prefix="crossband-uploads-", ignore_cleanup_errors=True) as folder:
        app = make_application(service, Path(folder).resolve())
        # What goes wrong is told by the service; uvicorn's own lines would name connections it breaks off.
        config = uvicorn.Config(
            app, log_level="critical", timeout_graceful_shutdown=_PATIENCE, server_header=False
        )
        server = uvicorn.Server(config)

        async def run() -> None:
            serving = asyncio.ensure_future(server.serve(sockets=[at]))
            while not (server.started or serving.done()):
                await asyncio.sleep(0.02)
            if server.started:
                ready()
            await serving

        try:
            asyncio.run(run())
        finally:
            service.close()
