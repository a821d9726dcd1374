"""A workspace without its id, with coroutines."""

from __future__ import annotations

from ._async_shell import AsyncShell
from ._errors import PyroError, UnknownIdError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterable
    from datetime import datetime
    from os import PathLike
    from types import TracebackType
    from typing import Any, Optional, Union

    from ._async_client import AsyncPyro
    from ._async_streams import AsyncEventStream, AsyncExecStream
    from ._output import Output
    from .results import ExecResult, SyncResult, WorkspaceDeleteResult, WorkspaceLogs, WorkspaceObject


class WorkspaceOpening:
    """A workspace that is about to be created: `await` it, or use it in `async with`."""

    def __init__(self, pyro: AsyncPyro, creation: Awaitable[WorkspaceObject]) -> None:
        self._pyro = pyro
        self._creation = creation
        self._workspace: Optional[AsyncWorkspace] = None

    def __await__(self) -> Generator[Any, None, AsyncWorkspace]:
        info = yield from self._creation.__await__()
        return AsyncWorkspace(self._pyro, info["workspace_id"])

    async def __aenter__(self) -> AsyncWorkspace:
        self._workspace = await self
        return self._workspace

    async def __aexit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        if self._workspace is not None:
            await self._workspace.__aexit__(kind, error, traceback)


class AsyncWorkspace:
    """`Workspace` with coroutines."""

    def __init__(self, pyro: AsyncPyro, workspace_id: str) -> None:
        self._pyro = pyro
        self.id = workspace_id

    def __repr__(self) -> str:
        return f"<AsyncWorkspace {self.id}>"

    async def exec(
        self,
        command: str,
        *,
        timeout_seconds: int = 30,
        on_output: Optional[Callable[[Output], object]] = None,
    ) -> ExecResult:
        """As `Workspace.exec`."""
        if on_output is None:
            return await self._pyro.exec_workspace(self.id, command=command, timeout_seconds=timeout_seconds)
        async with self.exec_stream(command, timeout_seconds=timeout_seconds) as stream:
            async for piece in stream:
                on_output(piece)
        return await stream.wait()

    def exec_stream(self, command: str, *, timeout_seconds: int = 30) -> AsyncExecStream:
        """As `Workspace.exec_stream`."""
        return self._pyro.exec_stream(self.id, command=command, timeout_seconds=timeout_seconds)

    async def push(self, source_path: Union[str, PathLike[str]], *, dest: str = "/workspace") -> SyncResult:
        """As `Workspace.push`."""
        return await self._pyro.push_workspace_sync(self.id, source_path, dest=dest)

    async def shell(self, *, cwd: str = "/workspace", cols: int = 120, rows: int = 30) -> AsyncShell:
        """As `Workspace.shell`."""
        return AsyncShell(self._pyro, await self._pyro.open_shell(self.id, cwd=cwd, cols=cols, rows=rows))

    async def status(self) -> WorkspaceObject:
        """As `Workspace.status`."""
        return await self._pyro.status_workspace(self.id)

    async def logs(self) -> WorkspaceLogs:
        """As `Workspace.logs`."""
        return await self._pyro.logs_workspace(self.id)

    def events(
        self,
        *,
        since: Union[int, str, datetime, None] = None,
        kinds: Iterable[str] = (),
        limit: Optional[int] = None,
        follow: bool = False,
    ) -> AsyncEventStream:
        """As `Workspace.events`."""
        return self._pyro.events(since=since, workspace=self.id, kinds=kinds, limit=limit, follow=follow)

    async def start(self) -> WorkspaceObject:
        """As `Workspace.start`."""
        return await self._pyro.start_workspace(self.id)

    async def stop(self) -> WorkspaceObject:
        """As `Workspace.stop`."""
        return await self._pyro.stop_workspace(self.id)

    async def delete(self) -> WorkspaceDeleteResult:
        """As `Workspace.delete`."""
        return await self._pyro.delete_workspace(self.id)

    async def __aenter__(self) -> AsyncWorkspace:
        return self

    async def __aexit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        try:
            await self.delete()
        except UnknownIdError:
            # It was deleted before, or its time was over.
            pass
        except PyroError:
            # What went wrong in the block says more.
            if error is None:
                raise
