"""What stands before a web application: limits, silence about places, and no address of another host."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from crossband.serve.guard import VEIL, Guard

FOLDER = "/tmp/secret"


def asked(
    app: Any,
    path: str = "/",
    body: bytes = b"",
    kind: str = "application/json",
    pieces: int = 1,
    host: str = "here:1",
) -> tuple[int, dict[str, str], bytes]:
    """What a guarded application answers: status, headers, body. pieces: that the body comes in."""
    step = max(-(-len(body) // pieces), 1)
    waiting = [body[place : place + step] for place in range(0, len(body), step)] or [b""]
    sent: list[Any] = []

    async def receive() -> Any:
        piece = waiting.pop(0) if waiting else b""
        return {"type": "http.request", "body": piece, "more_body": bool(waiting)}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", kind.encode()), (b"accept-encoding", b"br"), (b"host", host.encode())]
    scope = {"type": "http", "path": path, "raw_path": path.encode(), "headers": headers}
    asyncio.run(Guard(app, FOLDER, 100)(scope, receive, send))
    headers_sent = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers_sent, b"".join(message["body"] for message in sent[1:])


def answering(kind: str, body: bytes, seen: dict[str, Any]) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen["path"], seen["headers"], seen["body"] = scope["path"], dict(scope["headers"]), b""
        more = True
        while more:
            message = await receive()
            seen["body"] += message["body"]
            more = message["more_body"]
        headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_the_folder_of_uploads_goes_by_another_name(pieces: int) -> None:
    seen: dict[str, Any] = {}
    app = answering("application/json; charset=utf-8", f'["{FOLDER}/a.png"]'.encode(), seen)
    _, headers, body = asked(
        app, f"/file={VEIL}/a.png", f'{{"path": "{VEIL}/a.png"}}'.encode(), pieces=pieces
    )
    assert json.loads(body) == [f"{VEIL}/a.png"]
    assert "content-length" not in headers
    assert seen["path"] == f"/file={FOLDER}/a.png"
    assert json.loads(seen["body"]) == {"path": f"{FOLDER}/a.png"}
    assert b"accept-encoding" not in seen["headers"]


def test_images_pass_as_they_are() -> None:
    seen: dict[str, Any] = {}
    data = FOLDER.encode() + VEIL.encode()
    _, headers, body = asked(answering("image/png", data, seen), body=data, kind="image/png")
    assert (body, seen["body"], headers["content-length"]) == (data, data, str(len(data)))


def test_a_page_keeps_no_address_of_another_host() -> None:
    page = b'<meta content="https://elsewhere.org/x.jpg"><a href="http://here:1/y">"root":"http:\\/\\/no"</a>'
    _, headers, body = asked(answering("text/html; charset=utf-8", page, {}))
    assert b"elsewhere" not in body
    assert b"http://here:1/y" in body
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy


@pytest.mark.parametrize("host", ["localhost:7860", "192.168.0.7", "street-server.local"])
def test_a_page_keeps_its_own_address_and_nothing_of_others(host: str) -> None:
    page = f'"root":"http://{host}"; content="https://fonts.elsewhere.org/css?x" the rest'
    _, _, body = asked(answering("text/html", page.encode(), {}), host=host)
    assert body.decode() == f'"root":"http://{host}"; content="" the rest'


def test_other_answers_keep_theirs() -> None:
    told = b'{"name": "https://elsewhere.org"}'
    assert asked(answering("application/json", told, {}))[2] == told
    assert b"elsewhere" not in asked(answering("application/json", told, {}), "/config")[2]


@pytest.mark.parametrize("pieces", [1, 3])
def test_a_request_that_is_too_large_is_refused(pieces: int) -> None:
    status, _, body = asked(
        answering("text/plain", b"", {}), body=b"x" * 101, kind="image/png", pieces=pieces
    )
    assert status == 413
    assert "no more than" in json.loads(body)["error"]
