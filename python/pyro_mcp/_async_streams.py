"""Asynchronous iterators over what comes while a call is under way."""

from __future__ import annotations

from ._async_calls import next_news
from ._errors import CanceledError
from ._output import Decoder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Optional

    from ._native import Call
    from ._output import Output
    from .results import ExecResult, LogEvent


class _AsyncStream:
    """News of a call, up to its end."""

    def __init__(self, call: Call) -> None:
        self._call: Optional[Call] = call

    async def _news(self) -> Optional[tuple[Any, ...]]:
        """Waits for news; `None` when the stream was closed."""
        call = self._call
        if call is None:
            return None
        try:
            return await next_news(call)
        except CanceledError:
            # Another task may have closed it meanwhile.
            if self._call is None:
                return None
            raise

    def close(self) -> None:
        """Ends the iteration, also one that waits in another task, and what the call began."""
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    async def __aexit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()


class AsyncExecStream(_AsyncStream):
    """A command that runs, as an asynchronous iterator over what it prints; otherwise as `ExecStream`."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self._decoder = Decoder()
        self._rest: list[Output] = []
        self._result: Optional[ExecResult] = None

    async def __aenter__(self) -> AsyncExecStream:
        return self

    def __aiter__(self) -> AsyncExecStream:
        return self

    async def __anext__(self) -> Output:
        while True:
            news = await self._news()
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
        raise StopAsyncIteration

    async def wait(self) -> ExecResult:
        """As `ExecStream.wait`."""
        async for _ in self:
            pass
        if self._result is None:
            raise CanceledError("the stream was closed before the command ended", "canceled")
        return self._result


class AsyncEventStream(_AsyncStream):
    """Events of the log, as an asynchronous iterator; otherwise as `EventStream`."""

    async def __aenter__(self) -> AsyncEventStream:
        return self

    def __aiter__(self) -> AsyncEventStream:
        return self

    async def __anext__(self) -> LogEvent:
        while True:
            news = await self._news()
            if news is None:
                raise StopAsyncIteration
            if news[0] == "event":
                event: LogEvent = news[1]
                return event
            if news[0] == "ended":
                self._call = None
