"""A camera on the network, as small as RTSP allows: RFC 2326 over TCP, with RTP interleaved (its 10.12)."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable

import numpy as np

_PICTURES = 32
"""RTP's static number of MPEG video (RFC 2250), which needs no description beyond it."""


class RtspCamera:
    """Serves the images that ``image`` gives by number, (H, W, 3) of uint8, at a rate, to whoever asks.

    `stop` cuts every connection and refuses new ones, as a camera without power; `start` is there again under
    the same address.
    """

    def __init__(self, image: Callable[[int], np.ndarray], rate: int):
        self._image, self._rate = image, rate
        self.port, self._number = 0, 0
        self.start()

    @property
    def address(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/camera"

    def start(self) -> None:
        self._off = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listening.getsockname()[1]
        self._clients: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, args=(self._listening, self._off))]
        self._threads[0].start()

    def stop(self) -> None:
        self._off.set()
        for one in (self._listening, *self._clients):
            # Closing alone does not wake a thread that waits in it.
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                # The other side was quicker.
                continue
            finally:
                one.close()
        for thread in self._threads:
            thread.join()

    def _accept(self, listening: socket.socket, off: threading.Event) -> None:
        while not off.is_set():
            try:
                client = listening.accept()[0]
            except OSError:
                return
            self._clients.append(client)
            thread = threading.Thread(target=self._serve, args=(client, off))
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket, off: threading.Event) -> None:
        try:
            with client, client.makefile("rb") as asked:
                while (line := asked.readline()) and not off.is_set():
                    if line[:1] == b"$":
                        # The client's own reports.
                        continue
                    method = line.split(b" ")[0].decode(errors="replace")
                    told = b"".join(iter(asked.readline, b"\r\n")).decode(errors="replace")
                    number = re.search(r"(?mi)^CSeq: *(\d+)", told)
                    client.sendall(self._answer(method, number[1] if number else "0").encode())
                    if method == "PLAY":
                        self._play(client, off)
        except (OSError, ValueError):
            # Whoever watched has gone, or `stop` was called.
            return

    def _answer(self, method: str, number: str) -> str:
        more, body = "", ""
        if method == "OPTIONS":
            more = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
        elif method == "DESCRIBE":
            body = (
                f"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP {_PICTURES}\r\n"
            )
            more = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
        elif method == "SETUP":
            more = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
        return f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\nSession: 1\r\n{more}\r\n{body}"

    def _play(self, client: socket.socket, off: threading.Event) -> None:
        import av

        try:
            with av.open(Packets(client), "w", format="rtp", options={"packetsize": "1400"}) as container:
                stream = container.add_stream("mpeg2video", rate=25)
                stream.pix_fmt, stream.gop_size, stream.bit_rate = "yuv420p", 5, 2_000_000
                stream.height, stream.width = self._image(0).shape[:2]
                while not off.wait(1 / self._rate):
                    frame = av.VideoFrame.from_ndarray(self._image(self._number), format="rgb24")
                    self._number += 1
                    container.mux(stream.encode(frame))
        except av.error.FFmpegError as error:
            # Its end cannot be written where nobody listens.
            raise OSError(str(error)) from error


class Packets:
    """Takes RTP packets one by one and sends them within the connection: reports of the time as channel 1."""

    def __init__(self, client: socket.socket):
        self._client = client

    def write(self, packet: bytes) -> int:
        channel = 1 if 192 <= packet[1] <= 223 else 0
        self._client.sendall(b"$" + bytes([channel]) + len(packet).to_bytes(2, "big") + packet)
        return len(packet)
