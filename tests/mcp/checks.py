"""What every client must be able to do with the server."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anyio

from session import Refused, Session

TOOLS = 21
FORMS = [
    "pyro://workspaces/{id}",
    "pyro://workspaces/{id}/logs/{n}/stdout{?offset}",
]


@dataclass(frozen=True)
class Home:
    """A home of pyro, and the machines that are made there."""

    program: str
    path: Path
    machine: dict[str, Any]

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which a program uses it."""
        return {**os.environ, "PYRO_HOME": str(self.path)}

    async def wait_for(self, kind: str, workspace: str) -> dict[str, Any]:
        """Waits for an event of a workspace in the log."""
        follow = await asyncio.create_subprocess_exec(
            self.program, "log", "--json", "--follow", stdout=asyncio.subprocess.PIPE, env=self.environment
        )
        assert follow.stdout is not None
        try:
            async for line in follow.stdout:
                event = json.loads(line)
                if event["kind"] == kind and event.get("workspace_id") == workspace:
                    return event["data"]
        finally:
            follow.terminate()
            await follow.wait()
        raise AssertionError(f"the log ended before {kind}")


async def everything(session: Session, home: Home) -> None:
    """Does all there is."""
    tools = await session.tools()
    assert len(tools) == TOOLS, tools
    untried = {tool["name"] for tool in tools}
    workspace = (await session.done("workspace_create", **home.machine))["workspace_id"]
    untried -= {"workspace_create"}
    for check in (vms, workspaces, shells):
        untried -= await check(session, home, workspace)
    assert not untried, f"not tried: {untried}"
    await refusals(session, workspace)
    await side_by_side(session, home, workspace)
    await cancellation(session, home, workspace)
    await resources(session, home, workspace)
    await prompts(session)
    await session.done("workspace_delete", workspace_id=workspace)


async def vms(session: Session, home: Home, _: str) -> set[str]:
    """Catches a tool for single machines that does not do what it says."""
    environments = (await session.done("vm_list_environments"))["result"]
    assert "debian:12" in {environment["name"] for environment in environments}, environments
    ran = await session.done("vm_run", **home.machine, command="echo out; echo err >&2; exit 3")
    assert (ran["stdout"], ran["stderr"], ran["exit_code"]) == ("out\n", "err\n", 3), ran
    vm = (await session.done("vm_create", **home.machine))["vm_id"]
    assert (await session.done("vm_status", vm_id=vm))["state"] == "created"
    assert (await session.done("vm_start", vm_id=vm))["state"] == "started"
    await session.done("vm_network_info", vm_id=vm)
    # A number as a text, as models write it.
    assert (await session.done("vm_exec", vm_id=vm, command="id -u", timeout_seconds="20"))["exit_code"] == 0
    other = (await session.done("vm_create", **home.machine))["vm_id"]
    await session.done("vm_start", vm_id=other)
    assert (await session.done("vm_stop", vm_id=other))["state"] == "stopped"
    assert (await session.done("vm_delete", vm_id=other))["deleted"]
    await session.done("vm_reap_expired")
    names = "run list_environments create status start network_info exec stop delete reap_expired"
    return {f"vm_{name}" for name in names.split()}


async def workspaces(session: Session, home: Home, workspace: str) -> set[str]:
    """Catches a tool for workspaces that does not do what it says."""
    # Sessions may run side by side in one home.
    source = home.path / f"source-{workspace}"
    source.mkdir()
    (source / "file").write_text("content\n")
    pushed = await session.done("workspace_sync_push", workspace_id=workspace, source_path=str(source))
    assert pushed["workspace_sync"]["entry_count"] == 1, pushed
    ran = await session.done("workspace_exec", workspace_id=workspace, command="cat file")
    assert ran["stdout"] == "content\n", ran
    status = await session.done("workspace_status", workspace_id=workspace)
    assert (status["state"], status["command_count"]) == ("started", 1), status
    logs = await session.done("workspace_logs", workspace_id=workspace)
    assert [entry["command"] for entry in logs["entries"]] == ["cat file"], logs
    passing = (await session.done("workspace_create", **home.machine, seed_path=str(source)))["workspace_id"]
    assert (await session.done("workspace_delete", workspace_id=passing))["deleted"]
    return {f"workspace_{name}" for name in ("sync_push", "exec", "status", "logs", "delete")}


async def shells(session: Session, _: Home, workspace: str) -> set[str]:
    """Catches a tool for shells that does not do what it says."""
    shell = (await session.done("shell_open", workspace_id=workspace))["shell_id"]
    place = {"workspace_id": workspace, "shell_id": shell}
    await session.done("shell_write", **place, input="echo $((6 * 7))")
    while "\n42\n" not in (await session.done("shell_read", **place))["output"]:
        pass
    await session.done("shell_signal", **place)
    assert (await session.done("shell_close", **place))["closed"]
    return {f"shell_{name}" for name in ("open", "write", "read", "signal", "close")}


async def refusals(session: Session, workspace: str) -> None:
    """Catches a tool that takes what it must not, or does not say what is wrong."""
    fits = {"workspace_id": workspace, "vm_id": "nope", "shell_id": "nope", "environment": "debian:99"}
    fits |= {"command": "true", "source_path": "/nowhere", "input": "x"}
    for tool in await session.tools():
        name, schema = tool["name"], tool["inputSchema"]
        said = await session.refused(name, nonsense=1)
        assert "nonsense" in said, (name, said)
        passed = {required: fits[required] for required in schema.get("required", [])}
        for required in passed:
            said = await session.refused(name, **{**passed, required: None})
            assert f"`{required}`" in said, (name, required, said)
        if passed.keys() - {"workspace_id", "command"}:
            await session.refused(name, **passed)
        for argument in schema.get("properties", {}):
            said = await session.refused(name, **{**passed, argument: {}})
            assert f"`{argument}`" in said, (name, argument, said)
    missing = await session.refused("workspace_exec", workspace_id="nope", command="true")
    assert workspace in missing, missing
    await unknown_tool(session)


async def unknown_tool(session: Session) -> None:
    """Catches a tool that is not there and answers."""
    try:
        assert "nothing" in await session.refused("nothing")
    except Refused as refused:
        assert "nothing" in refused.message, refused


async def side_by_side(session: Session, home: Home, workspace: str) -> None:
    """Catches calls that wait for each other, progress that does not come, and a ping that waits."""
    told = anyio.Event()

    async def progress(_: float, __: float | None, message: str | None) -> None:
        if message == "working":
            told.set()

    async with anyio.create_task_group() as tasks:
        wait = "echo working; until [ -e go ]; do sleep 0.05; done"
        tasks.start_soon(partial(one, session, workspace, wait, progress))
        await told.wait()
        for number in range(20):
            tasks.start_soon(partial(one, session, workspace, f"until [ -e go ]; do sleep 0.05; done; exit {number}"))
        for _ in range(10):
            if not session.stateless:
                await session.ping()
        assert (await session.done("workspace_exec", workspace_id=workspace, command="touch go"))["exit_code"] == 0


async def one(session: Session, workspace: str, command: str, progress: Any = None) -> None:
    """Runs a command that ends as it says."""
    result = await session.call("workspace_exec", progress, workspace_id=workspace, command=command)
    expected = int(command.rpartition("exit ")[2]) if "exit " in command else 0
    assert result["structuredContent"]["exit_code"] == expected, result


async def cancellation(session: Session, home: Home, workspace: str) -> None:
    """Catches a command that goes on when nobody wants it any more."""
    before = (await session.done("workspace_status", workspace_id=workspace))["command_count"]
    marker = f"{session.stateless}-{before}"

    async def started() -> None:
        wait = f"until [ -e {marker} ]; do sleep 0.05; done"
        await session.done("workspace_exec", workspace_id=workspace, command=wait)

    endless = f"touch {marker}; sleep 1000"
    await session.call_and_leave("workspace_exec", started, workspace_id=workspace, command=endless)
    await home.wait_for("exec_cancel_requested", workspace)
    while True:
        logs = await session.done("workspace_logs", workspace_id=workspace)
        ended = [entry for entry in logs["entries"] if entry["command"] == endless]
        if ended:
            assert ended[0]["exit_code"] != 0, ended
            return


async def resources(session: Session, home: Home, workspace: str) -> None:
    """Catches a resource that cannot be listed, read or watched."""
    own = f"pyro://workspaces/{workspace}"
    assert {"pyro://workspaces", own} <= set(await session.resources())
    templates = await session.templates()
    assert set(FORMS) <= set(templates), templates
    assert json.loads(await session.read(own))["workspace_id"] == workspace
    assert await session.read(f"{own}/logs/1/stdout") == "content\n"
    for wrong in ("pyro://nothing", "pyro://workspaces/nope"):
        try:
            raise AssertionError(await session.read(wrong))
        except Refused as refused:
            assert refused.code in (-32002, -32602), refused
    async with session.subscribed(own):
        session.notices.arrived.clear()
        await session.done("workspace_exec", workspace_id=workspace, command="true")
        await session.notices.wait("notifications/resources/updated", own)
        other = (await session.done("workspace_create", **home.machine))["workspace_id"]
        await session.notices.wait("notifications/resources/list_changed")
        await session.done("workspace_delete", workspace_id=other)


async def prompts(session: Session) -> None:
    """Catches a prompt that cannot be listed or had."""
    names = await session.prompts()
    assert "validate-repository" in names, names
    assert "/some/where" in await session.prompt("validate-repository", path="/some/where")
