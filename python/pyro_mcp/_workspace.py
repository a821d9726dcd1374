"""A workspace without its id."""

from __future__ import annotations

from ._errors import PyroError, UnknownIdError
from ._shell import Shell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime
    from os import PathLike
    from types import TracebackType
    from typing import Optional, Union

    from ._client import Pyro
    from ._output import Output
    from ._streams import EventStream, ExecStream
    from .results import ExecResult, SyncResult, WorkspaceDeleteResult, WorkspaceLogs, WorkspaceObject


class Workspace:
    """A workspace. Leaving a `with` block deletes it, with everything in it.

    `id` is its id, 12 hexadecimal characters.
    """

    def __init__(self, pyro: Pyro, workspace_id: str) -> None:
        self._pyro = pyro
        self.id = workspace_id

    def __repr__(self) -> str:
        return f"<Workspace {self.id}>"

    def exec(
        self,
        command: str,
        *,
        timeout_seconds: int = 30,
        on_output: Optional[Callable[[Output], object]] = None,
    ) -> ExecResult:
        """Runs a command line in `/workspace` and waits for its end, as `Pyro.exec_workspace`.

        `on_output` is called with each piece of output as it comes. When it raises, the command is ended.
        """
        if on_output is None:
            return self._pyro.exec_workspace(self.id, command=command, timeout_seconds=timeout_seconds)
        with self.exec_stream(command, timeout_seconds=timeout_seconds) as stream:
            for piece in stream:
                on_output(piece)
        return stream.wait()

    def exec_stream(self, command: str, *, timeout_seconds: int = 30) -> ExecStream:
        """Runs a command line in `/workspace`, and returns an iterator over what it prints."""
        return self._pyro.exec_stream(self.id, command=command, timeout_seconds=timeout_seconds)

    def push(self, source_path: Union[str, PathLike[str]], *, dest: str = "/workspace") -> SyncResult:
        """Brings files of the host into the workspace, as `Pyro.push_workspace_sync`."""
        return self._pyro.push_workspace_sync(self.id, source_path, dest=dest)

    def shell(self, *, cwd: str = "/workspace", cols: int = 120, rows: int = 30) -> Shell:
        """Opens a shell; `cols` and `rows` are the size of its terminal in characters."""
        return Shell(self._pyro, self._pyro.open_shell(self.id, cwd=cwd, cols=cols, rows=rows))

    def status(self) -> WorkspaceObject:
        """Tells about the workspace."""
        return self._pyro.status_workspace(self.id)

    def logs(self) -> WorkspaceLogs:
        """Returns the commands that ended, with their output."""
        return self._pyro.logs_workspace(self.id)

    def events(
        self,
        *,
        since: Union[int, str, datetime, None] = None,
        kinds: Iterable[str] = (),
        limit: Optional[int] = None,
        follow: bool = False,
    ) -> EventStream:
        """Iterates over the events of the log that are about the workspace, as `Pyro.events`."""
        return self._pyro.events(since=since, workspace=self.id, kinds=kinds, limit=limit, follow=follow)

    def start(self) -> WorkspaceObject:
        """Boots the workspace after it was stopped; its files are as they were."""
        return self._pyro.start_workspace(self.id)

    def stop(self) -> WorkspaceObject:
        """Stops the guest; the files stay."""
        return self._pyro.stop_workspace(self.id)

    def delete(self) -> WorkspaceDeleteResult:
        """Deletes the workspace with everything in it; its events stay in the log."""
        return self._pyro.delete_workspace(self.id)

    def __enter__(self) -> Workspace:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        try:
            self.delete()
        except UnknownIdError:
            # It was deleted before, or its time was over.
            pass
        except PyroError:
            # What went wrong in the block says more.
            if error is None:
                raise
