"""The methods as coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from pyro_mcp import AsyncPyro, AsyncWorkspace, CanceledError, ExpectTimeoutError, Output, UnknownIdError


def run(home: Path, body: Callable[[AsyncPyro, AsyncWorkspace], Awaitable[None]]) -> None:
    """Runs a coroutine with a workspace."""

    async def main() -> None:
        pyro = AsyncPyro(base_dir=home)
        async with pyro.workspace("debian:12", mem_mib=128, allow_host_compat=True) as ws:
            await body(pyro, ws)
        with pytest.raises(UnknownIdError):
            await ws.status()

    asyncio.run(main())


def test_calls_run_side_by_side(home: Path) -> None:
    """Catches calls that wait for each other: each of these ends only when all others have begun."""

    async def body(pyro: AsyncPyro, ws: AsyncWorkspace) -> None:
        command = "touch {0}; until [ -e 0 -a -e 1 -a -e 2 -a -e 3 ]; do sleep 0.01; done; echo {0}"
        results = await asyncio.gather(*(ws.exec(command.format(number)) for number in range(4)))
        assert [result["stdout"] for result in results] == ["0\n", "1\n", "2\n", "3\n"]
        assert (await ws.logs())["count"] == 4

    run(home, body)


def test_output_comes_while_the_command_runs(home: Path) -> None:
    """Catches output that is held back until the end."""

    async def body(pyro: AsyncPyro, ws: AsyncWorkspace) -> None:
        command = "echo ready; until [ -e seen ]; do sleep 0.01; done; echo done >&2; exit 3"
        async with ws.exec_stream(command) as stream:
            assert (await stream.__anext__()).text == "ready\n"
            await ws.exec("touch seen")
            assert [piece.text async for piece in stream] == ["done\n"]
        assert (await stream.wait())["exit_code"] == 3
        pieces: list[Output] = []
        await ws.exec("echo 1; echo 2", on_output=pieces.append)
        assert "".join(piece.text for piece in pieces) == "1\n2\n"
        closed = ws.exec_stream("sleep 1000")
        closed.close()
        with pytest.raises(CanceledError):
            await closed.wait()

    run(home, body)


def test_canceled_task_ends_its_command(home: Path) -> None:
    """Catches a command that goes on although nobody waits for it."""

    async def body(pyro: AsyncPyro, ws: AsyncWorkspace) -> None:
        events = ws.events(kinds=["exec_*"], follow=True)
        task = asyncio.ensure_future(ws.exec("sleep 1000"))
        await until(events, "exec_started")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(events, "exec_exited")
        events.close()
        assert (await ws.logs())["entries"][0]["signal"] == "KILL"

    run(home, body)


async def until(events: AsyncIterator[object], kind: str) -> None:
    """Waits for an event."""
    async for event in events:
        if event["kind"] == kind:  # type: ignore[index]
            return


def test_shells(home: Path) -> None:
    """Catches output that is lost when the time for one pattern is over."""

    async def body(pyro: AsyncPyro, ws: AsyncWorkspace) -> None:
        async with await ws.shell() as shell:
            await shell.send("echo $((6 * 7)); read line")
            with pytest.raises(ExpectTimeoutError):
                await shell.expect("never", timeout=0.01)
            assert (await shell.expect("^4(.)$")).match[1] == "2"
            await shell.output()
        assert (await pyro.list_shells(ws.id))["count"] == 0

    run(home, body)


def test_workspace_can_be_awaited(home: Path) -> None:
    """Catches a workspace that is only good for `async with`."""

    async def main() -> None:
        pyro = AsyncPyro(base_dir=home)
        ws = await pyro.workspace("debian:12", mem_mib=128, allow_host_compat=True)
        same = await pyro.get_workspace(ws.id[:6])
        assert same.id == ws.id
        await same.delete()

    asyncio.run(main())
