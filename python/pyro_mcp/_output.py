"""What a command prints, while it runs."""

from __future__ import annotations

import codecs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional


class Output:
    """A piece of what a command printed.

    `stream` is `stdout` or `stderr`. `data` has the bytes as they came, cut anywhere. `text` has the characters that are
    complete by then; joined, the texts of a stream are the whole of it, with U+FFFD for what is not UTF-8. `lost_bytes`
    says how many bytes before this piece the daemon does not keep any more; it is 0 for all but clients that were away.
    """

    __slots__ = ("data", "lost_bytes", "stream", "text")

    stream: str
    data: bytes
    text: str
    lost_bytes: int

    def __init__(self, stream: str, data: bytes, text: str, lost_bytes: int = 0) -> None:
        self.stream = stream
        self.data = data
        self.text = text
        self.lost_bytes = lost_bytes

    def __repr__(self) -> str:
        lost = f", lost_bytes={self.lost_bytes}" if self.lost_bytes else ""
        return f"Output({self.stream!r}, {self.data!r}{lost})"


class Decoder:
    """Makes pieces of output out of what a call tells."""

    def __init__(self) -> None:
        make = codecs.getincrementaldecoder("utf-8")
        self._decoders = {"stdout": make("replace"), "stderr": make("replace")}

    def piece(self, news: tuple[Any, ...]) -> Optional[Output]:
        """Returns the piece that these news are about, or `None` when they are about something else."""
        if news[0] == "output":
            _, stream, data = news
            return Output(stream, data, self._decoders[stream].decode(data))
        if news[0] == "gap":
            _, stream, lost_bytes = news
            return Output(stream, b"", self._decoders[stream].decode(b"", True), lost_bytes)
        return None

    def rest(self) -> list[Output]:
        """Returns what is left of characters that never became complete."""
        texts = [(stream, decoder.decode(b"", True)) for stream, decoder in self._decoders.items()]
        return [Output(stream, b"", text) for stream, text in texts if text]
