"""A shell in a workspace, with coroutines."""

from __future__ import annotations

import asyncio

from ._async_calls import next_news
from ._shell import Expected, Screen, compiled, ended, late

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from types import TracebackType
    from typing import Any, Optional, Union

    from ._async_client import AsyncPyro
    from ._native import Call
    from .results import ShellCloseResult, ShellObject, ShellReadResult, ShellSignalResult, ShellWriteResult


class AsyncShell:
    """`Shell` with coroutines."""

    def __init__(self, pyro: AsyncPyro, info: ShellObject) -> None:
        self._pyro = pyro
        self._call: Optional[Call] = None
        self._screen = Screen()
        self._over = False
        self.workspace_id: str = info["workspace_id"]
        self.shell_id: str = info["shell_id"]

    def __repr__(self) -> str:
        return f"<AsyncShell {self.shell_id} in {self.workspace_id}>"

    async def send(self, text: str, *, enter: bool = True) -> ShellWriteResult:
        """As `Shell.send`."""
        return await self._pyro.write_shell(
            self.workspace_id, self.shell_id, input=text, append_newline=enter
        )

    async def expect(self, pattern: Union[str, re.Pattern[str]], timeout: float = 30.0) -> Expected:
        """As `Shell.expect`."""
        wanted = compiled(pattern)
        found = self._screen.find(wanted)
        if found is not None:
            return found
        try:
            return await asyncio.wait_for(self._find(wanted), timeout)
        except asyncio.TimeoutError:
            raise late(wanted, timeout, self._screen) from None

    async def output(self) -> str:
        """As `Shell.output`."""
        call = self._following()
        while not self._over:
            news = call.poll()
            if news is None:
                break
            self._take(news)
        return self._screen.take()

    async def read(self, *, cursor: int = 0, max_chars: int = 65536) -> ShellReadResult:
        """As `Shell.read`."""
        return await self._pyro.read_shell(
            self.workspace_id, self.shell_id, cursor=cursor, max_chars=max_chars
        )

    async def signal(self, signal_name: str = "INT") -> ShellSignalResult:
        """As `Shell.signal`."""
        return await self._pyro.signal_shell(self.workspace_id, self.shell_id, signal_name=signal_name)

    async def resize(self, *, cols: int, rows: int) -> ShellObject:
        """As `Shell.resize`."""
        return await self._pyro.resize_shell(self.workspace_id, self.shell_id, cols=cols, rows=rows)

    async def close(self) -> ShellCloseResult:
        """As `Shell.close`."""
        self._call, self._over = None, True
        return await self._pyro.close_shell(self.workspace_id, self.shell_id)

    async def _find(self, wanted: re.Pattern[str]) -> Expected:
        while True:
            found = self._screen.find(wanted)
            if found is not None:
                return found
            if self._over:
                raise ended(wanted)
            self._take(await next_news(self._following()))

    def _following(self) -> Call:
        if self._call is None:
            ids = {"workspace_id": self.workspace_id, "shell_id": self.shell_id}
            self._call = self._pyro._start("shell_follow", ids)
        return self._call

    def _take(self, news: tuple[Any, ...]) -> None:
        if news[0] == "output":
            self._screen.feed(news[2])
        self._over = news[0] == "ended"

    async def __aenter__(self) -> AsyncShell:
        return self

    async def __aexit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        if not self._over or self._call is not None:
            await self.close()
