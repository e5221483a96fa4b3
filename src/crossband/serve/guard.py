"""What stands before a web application: it holds limits, and names neither other hosts nor places here."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

VEIL = "/uploaded"
"""What stands for the folder of uploads in all that is sent and received."""

_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; font-src 'self' data:; media-src 'self' data: blob:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
_TEXTS = (b"text/html", b"text/plain", b"text/event-stream", b"application/json")
_SETTINGS = "/config"
"""Where a page fetches what it is made of."""
_ADDRESS = re.compile(rb"https?://([^/\"'\\\s<>]+)[^\"'\\\s<>]*")


class _TooLarge(Exception):
    """A request of more bytes than are taken."""


class Guard:
    """An ASGI application around another one.

    folder: of uploads, which is `VEIL` outside. request_bytes: the most bytes of a request; more are answered
    with 413. Pages keep no address of another host, and their browser is told to fetch from none.
    """

    def __init__(self, inner: Application, folder: str, request_bytes: int):
        self._inner, self._folder, self._most = inner, folder, request_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of HTTP; what else a server says is passed on."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        headers = dict(scope["headers"])
        began = False

        async def sending(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        host = headers.get(b"host", b"")
        answering = _Answering(sending, self._folder.encode(), host, scope["path"] == _SETTINGS)
        try:
            length = headers.get(b"content-length", b"0")
            if not length.isdigit() or int(length) > self._most:
                raise _TooLarge
            await self._inner(self._unveiled(scope), self._receiving(receive, headers), answering)
        except _TooLarge:
            if not began:
                # Many clients hear no answer before they have sent everything.
                while (await receive()).get("more_body"):
                    continue
                await _refuse(send, f"a request takes no more than {self._most / 1e6:.0f} MB; send less")

    def _unveiled(self, scope: Scope) -> Scope:
        """The request as the application knows it. Answers come unpacked, or nobody could look into them."""
        kept = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
        path = scope["path"].replace(VEIL, self._folder)
        return {**scope, "headers": kept, "path": path, "raw_path": path.encode()}

    def _receiving(self, receive: Receive, headers: Mapping[bytes, bytes]) -> Receive:
        taken = 0
        is_json = headers.get(b"content-type", b"").startswith(b"application/json")

        async def received() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._most:
                raise _TooLarge
            return message

        async def unveiled() -> Message:
            """The whole body at once: a place may be parted by the end of a piece."""
            pieces, message = b"", await received()
            while message["type"] == "http.request":
                pieces += message.get("body", b"")
                if not message.get("more_body"):
                    body = pieces.replace(VEIL.encode(), self._folder.encode())
                    return {"type": "http.request", "body": body, "more_body": False}
                message = await received()
            return message

        return unveiled if is_json else received


class _Answering:
    """Sends an answer on: its texts without the folder, with the headers that keep a page to itself."""

    def __init__(self, send: Send, folder: bytes, host: bytes, is_page: bool):
        self._send, self._folder, self._host = send, folder, host
        self._is_text, self._is_page = False, is_page

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            kind = dict(message["headers"]).get(b"content-type", b"")
            self._is_text = kind.startswith(_TEXTS)
            self._is_page |= kind.startswith(b"text/html")
            ours = {name for name, _ in _HEADERS} | ({b"content-length"} if self._is_text else set())
            kept = [(name, value) for name, value in message["headers"] if name.lower() not in ours]
            message = {**message, "headers": [*kept, *_HEADERS]}
        elif message["type"] == "http.response.body" and self._is_text:
            body = message.get("body", b"").replace(self._folder, VEIL.encode())
            if self._is_page:
                body = _ADDRESS.sub(lambda found: found[0] if found[1] == self._host else b"", body)
            message = {**message, "body": body}
        await self._send(message)


async def _refuse(send: Send, why: str) -> None:
    body = json.dumps({"error": why}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})
