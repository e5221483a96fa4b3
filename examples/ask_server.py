"""Ask a server what it sees in a pair of images, over HTTP; `crossband serve RUN` is the server.

python examples/ask_server.py http://127.0.0.1:7860 VISIBLE_IMAGE INFRARED_IMAGE OUT.png
"""

import base64
import json
import sys
import urllib.request
import uuid
from pathlib import Path


def post(address: str, files: dict[str, Path], **fields: str) -> dict:
    line = uuid.uuid4().hex
    parts = [(f'name="{name}"', text.encode()) for name, text in fields.items()]
    parts += [(f'name="{name}"; filename="{path.name}"', path.read_bytes()) for name, path in files.items()]
    body = b"".join(
        f"--{line}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + data + b"\r\n"
        for head, data in parts
    )
    kind = {"Content-Type": f"multipart/form-data; boundary={line}"}
    request = urllib.request.Request(address, body + f"--{line}--\r\n".encode(), kind)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def main(server: str, visible: str, infrared: str, out: str) -> None:
    files = {"visible": Path(visible), "infrared": Path(infrared)}
    answer = post(f"{server}/api/answer", files, compare="true")
    Path(out).write_bytes(base64.b64decode(answer["pictures"].get("overlay") or answer["pictures"]["fused"]))
    for one in answer["shares"] or []:
        print(f"{one['name']}: {100 * one['share']:.1f} %")
    for band, alone in answer["alone"].items():
        print(f"{band} alone ({alone['support']}): {100 * alone['changed']:.1f} % changes")


if __name__ == "__main__":
    main(*sys.argv[1:])
