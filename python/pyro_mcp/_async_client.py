"""The methods of the contract, as coroutines."""

from __future__ import annotations

import os

from ._async_calls import result_of
from ._async_streams import AsyncEventStream, AsyncExecStream
from ._async_workspace import AsyncWorkspace, WorkspaceOpening
from ._client import Pyro
from ._streams import log_request

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


class AsyncPyro:
    """`Pyro` with coroutines. Canceling the task that waits for one ends what it began."""

    def __init__(self, *, base_dir: Union[str, PathLike[str], None] = None) -> None:
        self._pyro = Pyro(base_dir=base_dir)

    def __repr__(self) -> str:
        return f"AsyncPyro(base_dir={str(self.home)!r})"

    @property
    def home(self) -> PathLike[str]:
        """As `Pyro.home`."""
        return self._pyro.home

    @property
    def program(self) -> Optional[PathLike[str]]:
        """As `Pyro.program`."""
        return self._pyro.program

    def create_server(self) -> Server:
        """As `Pyro.create_server`."""
        return self._pyro.create_server()

    def once(self, request_id: str) -> AsyncPyro:
        """As `Pyro.once`."""
        return self._of(self._pyro.once(request_id))

    async def list_environments(self) -> list[EnvObject]:
        """As `Pyro.list_environments`."""
        environments: list[EnvObject] = (await self._ask("env_list"))["environments"]
        return environments

    async def pull_environment(self, environment: str) -> PullResult:
        """As `Pyro.pull_environment`."""
        return await self._change("env_pull", environment=environment)

    async def inspect_environment(self, environment: str) -> EnvObject:
        """As `Pyro.inspect_environment`."""
        return await self._ask("env_inspect", environment=environment)

    async def prune_environments(self) -> PruneResult:
        """As `Pyro.prune_environments`."""
        return await self._change("env_prune")

    async def create_vm(
        self,
        *,
        environment: str,
        vcpu_count: int = 1,
        mem_mib: int = 1024,
        ttl_seconds: int = 600,
        network: bool = False,
        allow_host_compat: bool = False,
    ) -> VmObject:
        """As `Pyro.create_vm`."""
        return await self._change(
            "vm_create",
            environment=environment,
            vcpu_count=vcpu_count,
            mem_mib=mem_mib,
            ttl_seconds=ttl_seconds,
            network=network,
            allow_host_compat=allow_host_compat,
        )

    async def start_vm(self, vm_id: str) -> VmObject:
        """As `Pyro.start_vm`."""
        return await self._change("vm_start", vm_id=vm_id)

    async def exec_vm(self, vm_id: str, *, command: str, timeout_seconds: int = 30) -> RunResult:
        """As `Pyro.exec_vm`."""
        return await self._change("vm_exec", vm_id=vm_id, command=command, timeout_seconds=timeout_seconds)

    async def stop_vm(self, vm_id: str) -> VmObject:
        """As `Pyro.stop_vm`."""
        return await self._change("vm_stop", vm_id=vm_id)

    async def delete_vm(self, vm_id: str) -> DeleteResult:
        """As `Pyro.delete_vm`."""
        return await self._change("vm_delete", vm_id=vm_id)

    async def status_vm(self, vm_id: str) -> VmObject:
        """As `Pyro.status_vm`."""
        return await self._ask("vm_status", vm_id=vm_id)

    async def network_info_vm(self, vm_id: str) -> NetworkInfo:
        """As `Pyro.network_info_vm`."""
        return await self._ask("vm_network_info", vm_id=vm_id)

    async def reap_expired(self) -> ReapResult:
        """As `Pyro.reap_expired`."""
        return await self._change("vm_reap_expired")

    async def run_in_vm(
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
        """As `Pyro.run_in_vm`."""
        return await self._change(
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

    async def create_workspace(
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
        """As `Pyro.create_workspace`."""
        return await self._change(
            "workspace_create",
            environment=environment,
            vcpu_count=vcpu_count,
            mem_mib=mem_mib,
            ttl_seconds=ttl_seconds,
            network=network,
            allow_host_compat=allow_host_compat,
            seed_path=None if seed_path is None else os.fspath(seed_path),
        )

    async def push_workspace_sync(
        self, workspace_id: str, source_path: Union[str, PathLike[str]], *, dest: str = "/workspace"
    ) -> SyncResult:
        """As `Pyro.push_workspace_sync`."""
        source_path = os.fspath(source_path)
        return await self._change(
            "workspace_sync_push", workspace_id=workspace_id, source_path=source_path, dest=dest
        )

    async def exec_workspace(
        self, workspace_id: str, *, command: str, timeout_seconds: int = 30
    ) -> ExecResult:
        """As `Pyro.exec_workspace`."""
        return await self._change(
            "workspace_exec", workspace_id=workspace_id, command=command, timeout_seconds=timeout_seconds
        )

    async def status_workspace(self, workspace_id: str) -> WorkspaceObject:
        """As `Pyro.status_workspace`."""
        return await self._ask("workspace_status", workspace_id=workspace_id)

    async def logs_workspace(self, workspace_id: str) -> WorkspaceLogs:
        """As `Pyro.logs_workspace`."""
        return await self._ask("workspace_logs", workspace_id=workspace_id)

    async def delete_workspace(self, workspace_id: str) -> WorkspaceDeleteResult:
        """As `Pyro.delete_workspace`."""
        return await self._change("workspace_delete", workspace_id=workspace_id)

    async def list_workspaces(self) -> WorkspaceList:
        """As `Pyro.list_workspaces`."""
        return await self._ask("workspace_list")

    async def start_workspace(self, workspace_id: str) -> WorkspaceObject:
        """As `Pyro.start_workspace`."""
        return await self._change("workspace_start", workspace_id=workspace_id)

    async def stop_workspace(self, workspace_id: str) -> WorkspaceObject:
        """As `Pyro.stop_workspace`."""
        return await self._change("workspace_stop", workspace_id=workspace_id)

    async def open_shell(
        self, workspace_id: str, *, cwd: str = "/workspace", cols: int = 120, rows: int = 30
    ) -> ShellObject:
        """As `Pyro.open_shell`."""
        return await self._change("shell_open", workspace_id=workspace_id, cwd=cwd, cols=cols, rows=rows)

    async def read_shell(
        self, workspace_id: str, shell_id: str, *, cursor: int = 0, max_chars: int = 65536
    ) -> ShellReadResult:
        """As `Pyro.read_shell`."""
        return await self._ask(
            "shell_read", workspace_id=workspace_id, shell_id=shell_id, cursor=cursor, max_chars=max_chars
        )

    async def write_shell(
        self, workspace_id: str, shell_id: str, *, input: str, append_newline: bool = True
    ) -> ShellWriteResult:
        """As `Pyro.write_shell`."""
        return await self._change(
            "shell_write",
            workspace_id=workspace_id,
            shell_id=shell_id,
            input=input,
            append_newline=append_newline,
        )

    async def signal_shell(
        self, workspace_id: str, shell_id: str, *, signal_name: str = "INT"
    ) -> ShellSignalResult:
        """As `Pyro.signal_shell`."""
        return await self._change(
            "shell_signal", workspace_id=workspace_id, shell_id=shell_id, signal_name=signal_name
        )

    async def close_shell(self, workspace_id: str, shell_id: str) -> ShellCloseResult:
        """As `Pyro.close_shell`."""
        return await self._change("shell_close", workspace_id=workspace_id, shell_id=shell_id)

    async def list_shells(self, workspace_id: str) -> ShellList:
        """As `Pyro.list_shells`."""
        return await self._ask("shell_list", workspace_id=workspace_id)

    async def resize_shell(self, workspace_id: str, shell_id: str, *, cols: int, rows: int) -> ShellObject:
        """As `Pyro.resize_shell`."""
        return await self._change(
            "shell_resize", workspace_id=workspace_id, shell_id=shell_id, cols=cols, rows=rows
        )

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
    ) -> WorkspaceOpening:
        """As `Pyro.workspace`, for `async with` or `await`."""
        return WorkspaceOpening(
            self._of(self._pyro._unbound()),
            self._change(
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
            ),
        )

    async def get_workspace(self, workspace_id: str) -> AsyncWorkspace:
        """As `Pyro.get_workspace`."""
        info = await self.status_workspace(workspace_id)
        return AsyncWorkspace(self._of(self._pyro._unbound()), info["workspace_id"])

    def exec_stream(self, workspace_id: str, *, command: str, timeout_seconds: int = 30) -> AsyncExecStream:
        """As `Pyro.exec_stream`."""
        request = {"workspace_id": workspace_id, "command": command, "timeout_seconds": timeout_seconds}
        return AsyncExecStream(self._start("workspace_exec", self._pyro._identified(request)))

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
    ) -> AsyncEventStream:
        """As `Pyro.events`."""
        request = log_request(
            since=since,
            until=until,
            workspace=workspace,
            kinds=kinds,
            actor=actor,
            limit=limit,
            follow=follow,
        )
        return AsyncEventStream(self._start("log", request))

    async def _ask(self, operation: str, **request: Any) -> Any:
        return await result_of(self._pyro._session.start(operation, request, observe=False, audible=True))

    async def _change(self, operation: str, **request: Any) -> Any:
        return await self._ask(operation, **self._pyro._identified(request))

    def _start(self, operation: str, request: dict[str, Any]) -> Call:
        return self._pyro._session.start(operation, request, observe=True, audible=True)

    @staticmethod
    def _of(pyro: Pyro) -> AsyncPyro:
        shared = AsyncPyro.__new__(AsyncPyro)
        shared._pyro = pyro
        return shared
