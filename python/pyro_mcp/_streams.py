"""Iterators over what comes while a call is under way."""

from __future__ import annotations

from ._errors import CanceledError, InvalidArgumentError
from ._output import Decoder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Optional

    from ._native import Call
    from ._output import Output
    from .results import ExecResult, LogEvent


class _Stream:
    """News of a call, up to its end."""

    def __init__(self, call: Call) -> None:
        self._call: Optional[Call] = call

    def _news(self) -> Optional[tuple[Any, ...]]:
        """Waits for news; `None` when the stream was closed."""
        call = self._call
        if call is None:
            return None
        try:
            news = call.next()
        except CanceledError:
            # Another thread may have closed it meanwhile.
            if self._call is None:
                return None
            raise
        assert news is not None, "without a time limit there are always news"
        return news

    def close(self) -> None:
        """Ends the iteration, also one that waits in another thread, and what the call began."""
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()


class ExecStream(_Stream):
    """A command that runs, as an iterator over what it prints.

        with ws.exec_stream("make") as stream:
            for piece in stream:
                print(piece.text, end="")
        print(stream.wait()["exit_code"])

    The iteration ends with the command. A reader who is slow slows the stream down, not the command. `close`, leaving the
    `with` block and losing the last reference end a command that still runs.
    """

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self._decoder = Decoder()
        self._rest: list[Output] = []
        self._result: Optional[ExecResult] = None

    def __enter__(self) -> ExecStream:
        return self

    def __iter__(self) -> ExecStream:
        return self

    def __next__(self) -> Output:
        while True:
            news = self._news()
            if news is None:
                break
            if news[0] == "ended":
                self._result = news[1]
                self._rest = self._decoder.rest()
                self._call = None
            else:
                piece = self._decoder.piece(news)
                if piece is not None:
                    return piece
        if self._rest:
            return self._rest.pop(0)
        raise StopIteration

    def wait(self) -> ExecResult:
        """Waits for the end of the command and returns its result, with the output that `exec_workspace` gives.

        Raises `CanceledError` when the stream was closed before.
        """
        for _ in self:
            pass
        if self._result is None:
            raise CanceledError("the stream was closed before the command ended", "canceled")
        return self._result


class EventStream(_Stream):
    """Events of the log, as an iterator. Losing the last reference closes it."""

    def __enter__(self) -> EventStream:
        return self

    def __iter__(self) -> EventStream:
        return self

    def __next__(self) -> LogEvent:
        while True:
            news = self._news()
            if news is None:
                raise StopIteration
            if news[0] == "event":
                event: LogEvent = news[1]
                return event
            if news[0] == "ended":
                self._call = None


def log_request(**options: Any) -> dict[str, Any]:
    """Returns the request for events; options that are `None` or empty are left out."""
    request = {name: value for name, value in options.items() if value is not None}
    for name in ("since", "until"):
        point = request.get(name)
        if point is not None and hasattr(point, "isoformat"):
            if point.tzinfo is None:
                raise InvalidArgumentError(f"{name} has no time zone", "invalid_argument")
            request[name] = point.isoformat()
    if "kinds" in request:
        request["kinds"] = list(request["kinds"])
    return request
