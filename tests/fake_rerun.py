"""What stands for the package rerun where it is not installed, and keeps what it is told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any


def fake_rerun(log: list[tuple[float, str, Any]]) -> Any:
    """What is logged, in place of the package: its time, its entity, and what it is."""

    class Recording:
        seconds = 0.0

        def set_time(self, name: str, duration: float | None = None, sequence: int = 0) -> None:
            self.seconds = self.seconds if duration is None else duration

        def log(self, name: str, what: Any, static: bool = False) -> None:
            log.append((self.seconds, name, what))

        def save(self, path: str) -> None:
            Path(path).write_bytes(b"")

        def flush(self) -> None:
            log.append((self.seconds, "flushed", None))

        disconnect = flush

    kinds = ("EncodedImage", "Scalars", "Clear", "Image")
    made = {kind: lambda *given, **more: SimpleNamespace(given=given, **more) for kind in kinds}
    made["TextDocument"] = lambda text: SimpleNamespace(text=text)
    return SimpleNamespace(RecordingStream=lambda name: Recording(), **made)
