"""The methods of the contract."""

from __future__ import annotations

import os

from ._native import Session
from ._program import find_program
from ._server import create_server
from ._streams import EventStream, ExecStream, log_request
from ._workspace import Workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from os import PathLike
    from typing import Any, Optional, Union

    from ._native import Call
    from ._server import Server
    from .results import (
        DeleteResult,
        EnvObject,
        ExecResult,
        NetworkInfo,
        PruneResult,
        PullResult,
        ReapResult,
        RunResult,
        ShellCloseResult,
        ShellList,
        ShellObject,
        ShellReadResult,
        ShellSignalResult,
        ShellWriteResult,
        SyncResult,
        VmObject,
        WorkspaceDeleteResult,
        WorkspaceList,
        WorkspaceLogs,
        WorkspaceObject,
    )


class Pyro:
    """A home of pyro and what can be asked of its daemon.

    `base_dir` is the home; without it, it is what the command `pyro` uses: `PYRO_HOME`, else `pyro` in the XDG data
    directory. Making a `Pyro` touches no file and starts nothing: the first call that needs the daemon starts it.

    All methods block until the answer is there and may be called from any number of threads. Other threads run meanwhile,
    and Ctrl-C in the main thread ends the call and what it began. A workspace or VM is meant by its id, by at least the
    first 4 characters of it, or, a workspace, by its name. Times are seconds since 1970.

    Every method raises `PyroError`: `InvalidArgumentError` and `UnknownIdError`, which are also `ValueError`, and
    `StateError`, `UnavailableError`, `OperationFailedError`, `CanceledError` and `TransportError`, which are also
    `RuntimeError`.
    """

    def __init__(self, *, base_dir: Union[str, PathLike[str], None] = None) -> None:
        self._session = Session(find_program(), base_dir)
        self._request_id: Optional[str] = None

    def __repr__(self) -> str:
        return f"Pyro(base_dir={str(self.home)!r})"

    @property
    def home(self) -> PathLike[str]:
        """The directory that holds everything pyro keeps."""
        return self._session.home

    @property
    def program(self) -> Optional[PathLike[str]]:
        """The program `pyro` that is started when no daemon runs."""
        return self._session.program

    def create_server(self) -> Server:
        """Returns the MCP server of this home."""
        return create_server(self)

    def once(self, request_id: str) -> Pyro:
        """Returns the same home, for one call that changes something and has this request id.

        A request id is a UUID. Whoever repeats a call under it gets the outcome of the first one, and nothing is done
        again. Without it, each call draws its own, under which it is repeated when the daemon goes before it has answered.
        """
        return self._with(request_id)

    # Environments

    def list_environments(self) -> list[EnvObject]:
        """Returns the catalog of environments, sorted by name."""
        environments: list[EnvObject] = self._ask("env_list")["environments"]
        return environments

    def pull_environment(self, environment: str) -> PullResult:
        """Installs an environment, or repairs its installation. It can take minutes.

        Raises `UnknownIdError` for a name that the catalog lacks and `UnavailableError` when it cannot be installed.
        """
        return self._change("env_pull", environment=environment)

    def inspect_environment(self, environment: str) -> EnvObject:
        """Tells about one environment. Raises `UnknownIdError` for a name that the catalog lacks."""
        return self._ask("env_inspect", environment=environment)

    def prune_environments(self) -> PruneResult:
        """Removes what is left of old and unfinished installations."""
        return self._change("env_prune")

    # VMs

    def create_vm(
        self,
        *,
        environment: str,
        vcpu_count: int = 1,
        mem_mib: int = 1024,
        ttl_seconds: int = 600,
        network: bool = False,
        allow_host_compat: bool = False,
    ) -> VmObject:
        """Creates a VM without starting it.

        `vcpu_count` is 1 to 32, `mem_mib` 128 up to what the host can spare, `ttl_seconds` 60 to 2592000 (30 days) or 0
        for no end. `network` gives outbound access; without it there is loopback only. `allow_host_compat` accepts
        namespaces of the host's kernel in place of a VM, a weaker border. Raises `StateError` when the host has no room.
        """
        return self._change(
            "vm_create",
            environment=environment,
            vcpu_count=vcpu_count,
            mem_mib=mem_mib,
            ttl_seconds=ttl_seconds,
            network=network,
            allow_host_compat=allow_host_compat,
        )

    def start_vm(self, vm_id: str) -> VmObject:
        """Boots a VM that is created or stopped. Raises `UnavailableError` when no guest can be booted."""
        return self._change("vm_start", vm_id=vm_id)

    def exec_vm(self, vm_id: str, *, command: str, timeout_seconds: int = 30) -> RunResult:
        """Runs one command line by `/bin/sh -lc` in a started VM, and deletes the VM.

        The result says how the command ended, whatever its exit code. After `timeout_seconds` it is killed with all it
        started: the exit code is 124 then, and `timed_out` is there. Of output beyond 1 MiB a stream, beginning and end
        are there.
        """
        return self._change("vm_exec", vm_id=vm_id, command=command, timeout_seconds=timeout_seconds)

    def stop_vm(self, vm_id: str) -> VmObject:
        """Stops a VM; its disk stays."""
        return self._change("vm_stop", vm_id=vm_id)

    def delete_vm(self, vm_id: str) -> DeleteResult:
        """Deletes a VM with everything in it; its events stay in the log."""
        return self._change("vm_delete", vm_id=vm_id)

    def status_vm(self, vm_id: str) -> VmObject:
        """Tells about a VM."""
        return self._ask("vm_status", vm_id=vm_id)

    def network_info_vm(self, vm_id: str) -> NetworkInfo:
        """Tells about the network of a VM; `network_enabled` says which keys are there."""
        return self._ask("vm_network_info", vm_id=vm_id)

    def reap_expired(self) -> ReapResult:
        """Deletes at once all VMs and workspaces whose time to live is over, as the daemon does by itself."""
        return self._change("vm_reap_expired")

    def run_in_vm(
        self,
        *,
        environment: str,
        command: str,
        vcpu_count: int = 1,
        mem_mib: int = 1024,
        timeout_seconds: int = 30,
        ttl_seconds: int = 600,
        network: bool = False,
        allow_host_compat: bool = False,
    ) -> RunResult:
        """Creates a VM, runs one command line in it and deletes it. The arguments are those of `create_vm` and `exec_vm`.

        An environment that is missing is installed first.
        """
        return self._change(
            "run",
            environment=environment,
            command=command,
            vcpu_count=vcpu_count,
            mem_mib=mem_mib,
            timeout_seconds=timeout_seconds,
            ttl_seconds=ttl_seconds,
            network=network,
            allow_host_compat=allow_host_compat,
        )

    # Workspaces

    def create_workspace(
        self,
        *,
        environment: str,
        vcpu_count: int = 1,
        mem_mib: int = 1024,
        ttl_seconds: int = 600,
        network: bool = False,
        allow_host_compat: bool = False,
        seed_path: Union[str, PathLike[str], None] = None,
    ) -> WorkspaceObject:
        """Creates a workspace and starts it.

        `seed_path` is a directory or a .tar, .tar.gz or .tgz archive of the host whose files the workspace begins with;
        the other arguments are those of `create_vm`. Raises `InvalidArgumentError` when it is not there.
        """
        return self._change(
            "workspace_create",
            environment=environment,
            vcpu_count=vcpu_count,
            mem_mib=mem_mib,
            ttl_seconds=ttl_seconds,
            network=network,
            allow_host_compat=allow_host_compat,
            seed_path=None if seed_path is None else os.fspath(seed_path),
        )

    def push_workspace_sync(
        self, workspace_id: str, source_path: Union[str, PathLike[str]], *, dest: str = "/workspace"
    ) -> SyncResult:
        """Brings files of the host into a started workspace: all of them, or none when something is wrong with one.

        `source_path` is a directory or an archive as for `create_workspace`; `dest` is `/workspace` or below it, and a
        relative one is below it. Raises `InvalidArgumentError` when the source is not there and `StateError` when it holds
        something that is not allowed.
        """
        source_path = os.fspath(source_path)
        return self._change(
            "workspace_sync_push", workspace_id=workspace_id, source_path=source_path, dest=dest
        )

    def exec_workspace(self, workspace_id: str, *, command: str, timeout_seconds: int = 30) -> ExecResult:
        """Runs one command line by `/bin/sh -lc` in `/workspace` of a started workspace.

        The result says how the command ended, whatever its exit code. After `timeout_seconds` it is killed with all it
        started: the exit code is 124 then, and `timed_out` is there. Of output beyond 1 MiB a stream, beginning and end
        are there. Raises `OperationFailedError` with the code `exec_lost` when nobody can tell any more how it ended.
        """
        return self._change(
            "workspace_exec", workspace_id=workspace_id, command=command, timeout_seconds=timeout_seconds
        )

    def status_workspace(self, workspace_id: str) -> WorkspaceObject:
        """Tells about a workspace."""
        return self._ask("workspace_status", workspace_id=workspace_id)

    def logs_workspace(self, workspace_id: str) -> WorkspaceLogs:
        """Returns the commands that ended in a workspace, with their output."""
        return self._ask("workspace_logs", workspace_id=workspace_id)

    def delete_workspace(self, workspace_id: str) -> WorkspaceDeleteResult:
        """Deletes a workspace with everything in it; its events stay in the log."""
        return self._change("workspace_delete", workspace_id=workspace_id)

    def list_workspaces(self) -> WorkspaceList:
        """Returns all workspaces, oldest first."""
        return self._ask("workspace_list")

    def start_workspace(self, workspace_id: str) -> WorkspaceObject:
        """Boots a workspace that is stopped; its files are as they were."""
        return self._change("workspace_start", workspace_id=workspace_id)

    def stop_workspace(self, workspace_id: str) -> WorkspaceObject:
        """Stops the guest of a workspace; its files stay."""
        return self._change("workspace_stop", workspace_id=workspace_id)

    # Shells

    def open_shell(
        self, workspace_id: str, *, cwd: str = "/workspace", cols: int = 120, rows: int = 30
    ) -> ShellObject:
        """Opens a shell on a terminal in a started workspace.

        `cwd` must exist; a relative one is below `/workspace`. `cols` and `rows` are characters, 1 to 65535.
        """
        return self._change("shell_open", workspace_id=workspace_id, cwd=cwd, cols=cols, rows=rows)

    def read_shell(
        self, workspace_id: str, shell_id: str, *, cursor: int = 0, max_chars: int = 65536
    ) -> ShellReadResult:
        """Reads what a shell printed, from a cursor on; reading takes nothing away.

        `cursor` is 0 or a `next_cursor` of before, `max_chars` the most characters to return.
        """
        return self._ask(
            "shell_read", workspace_id=workspace_id, shell_id=shell_id, cursor=cursor, max_chars=max_chars
        )

    def write_shell(
        self, workspace_id: str, shell_id: str, *, input: str, append_newline: bool = True
    ) -> ShellWriteResult:
        """Types text into a running shell, and Enter behind it. Raises `StateError` when the shell has ended."""
        return self._change(
            "shell_write",
            workspace_id=workspace_id,
            shell_id=shell_id,
            input=input,
            append_newline=append_newline,
        )

    def signal_shell(
        self, workspace_id: str, shell_id: str, *, signal_name: str = "INT"
    ) -> ShellSignalResult:
        """Sends a signal to a running shell.

        INT and TERM reach the foreground job, HUP hangs the terminal up, KILL ends the shell with all that it started.
        """
        return self._change(
            "shell_signal", workspace_id=workspace_id, shell_id=shell_id, signal_name=signal_name
        )

    def close_shell(self, workspace_id: str, shell_id: str) -> ShellCloseResult:
        """Ends a shell if it runs, and forgets it."""
        return self._change("shell_close", workspace_id=workspace_id, shell_id=shell_id)

    def list_shells(self, workspace_id: str) -> ShellList:
        """Returns the shells of a workspace that are not closed, oldest first."""
        return self._ask("shell_list", workspace_id=workspace_id)

    def resize_shell(self, workspace_id: str, shell_id: str, *, cols: int, rows: int) -> ShellObject:
        """Gives the terminal of a running shell another size, in characters, 1 to 65535."""
        return self._change(
            "shell_resize", workspace_id=workspace_id, shell_id=shell_id, cols=cols, rows=rows
        )

    # Without ids, and as it comes

    def workspace(
        self,
        environment: str,
        *,
        name: Optional[str] = None,
        labels: Optional[Mapping[str, str]] = None,
        vcpu_count: int = 1,
        mem_mib: int = 1024,
        ttl_seconds: int = 600,
        network: bool = False,
        allow_host_compat: bool = False,
        seed_path: Union[str, PathLike[str], None] = None,
    ) -> Workspace:
        """Creates a workspace as `create_workspace`, for a `with` block that deletes it.

        `name` is one that no other workspace has; `labels` are by key.
        """
        info = self._change(
            "workspace_create",
            environment=environment,
            name=name,
            labels=dict(labels or {}),
            vcpu_count=vcpu_count,
            mem_mib=mem_mib,
            ttl_seconds=ttl_seconds,
            network=network,
            allow_host_compat=allow_host_compat,
            seed_path=None if seed_path is None else os.fspath(seed_path),
        )
        return Workspace(self._unbound(), info["workspace_id"])

    def get_workspace(self, workspace_id: str) -> Workspace:
        """Returns a workspace that is there. Raises `UnknownIdError` when there is none."""
        return Workspace(self._unbound(), self.status_workspace(workspace_id)["workspace_id"])

    def exec_stream(self, workspace_id: str, *, command: str, timeout_seconds: int = 30) -> ExecStream:
        """Runs a command line as `exec_workspace`, and returns an iterator over what it prints."""
        request = {"workspace_id": workspace_id, "command": command, "timeout_seconds": timeout_seconds}
        return ExecStream(self._start("workspace_exec", self._identified(request)))

    def events(
        self,
        *,
        since: Union[int, str, datetime, None] = None,
        until: Union[int, str, datetime, None] = None,
        workspace: Optional[str] = None,
        kinds: Iterable[str] = (),
        actor: Optional[str] = None,
        limit: Optional[int] = None,
        follow: bool = False,
    ) -> EventStream:
        """Iterates over the events of the log, oldest first.

        `since` and `until` are numbers of events, times as in RFC 3339, times ago as `"10m"`, or `datetime` objects with a
        time zone. `workspace` is an id or name, also of one that was deleted; `kinds` are names of kinds, or beginnings
        such as `exec_*`; `actor` is a way in (`daemon`, `cli`, `mcp`, `python`, `fuse`), `uid:N` or a program; `limit`
        leaves the last so many. With `follow` the iteration waits for more, also through the end of a daemon, until it is
        closed.
        """
        request = log_request(
            since=since,
            until=until,
            workspace=workspace,
            kinds=kinds,
            actor=actor,
            limit=limit,
            follow=follow,
        )
        return EventStream(self._start("log", request))

    def _ask(self, operation: str, **request: Any) -> Any:
        return self._session.ask(operation, request)

    def _change(self, operation: str, **request: Any) -> Any:
        return self._session.ask(operation, self._identified(request))

    def _start(self, operation: str, request: dict[str, Any]) -> Call:
        return self._session.start(operation, request, observe=True, audible=False)

    def _identified(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._request_id is not None:
            request["request_id"] = self._request_id
        return request

    def _unbound(self) -> Pyro:
        """Returns the same home without the request id, which was for one call."""
        return self if self._request_id is None else self._with(None)

    def _with(self, request_id: Optional[str]) -> Pyro:
        pyro = Pyro.__new__(type(self))
        pyro._session = self._session
        pyro._request_id = request_id
        return pyro
