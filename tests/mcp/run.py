"""Runs all checks with the official client of this virtual environment against a program `pyro`."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio

from checks import Home, everything
from session import NEWEST, Server, version

SANDBOX = 'backend = "host_sandbox"\n'
GUEST = 'backend = "qemu"\naccelerator = "tcg"\n'

# Longest time for all checks in one session, in seconds: something hangs, or a guest boots without KVM.
SECONDS_MAX = {SANDBOX: 120, GUEST: 900}

MODES = ["legacy", "auto"] if NEWEST else ["legacy"]


@contextmanager
def made_home(program: str, config: str) -> Iterator[Home]:
    """Makes a home, and ends its daemon."""
    # Its path must be short, because sockets lie in it.
    path = Path(tempfile.mkdtemp(prefix="pyro"))
    home = Home(program, path, {"environment": "debian:12", "mem_mib": 256, "allow_host_compat": config == SANDBOX})
    (path / "config.toml").write_text(config)
    try:
        yield home
    finally:
        # Guests outlive their daemon.
        listed = ["workspace", "list", "--json"]
        for workspace in json.loads(ask(home, listed))["workspaces"]:
            ask(home, ["workspace", "delete", workspace["workspace_id"]])
        ask(home, ["daemon", "stop"])
        shutil.rmtree(path)


def ask(home: Home, arguments: list[str]) -> bytes:
    """Runs a command of pyro and returns what it printed."""
    done = subprocess.run([home.program, *arguments], env=home.environment, check=True, stdout=subprocess.PIPE)
    return done.stdout


@contextmanager
def listening(home: Home) -> Iterator[Server]:
    """Runs a server for HTTP, and ends it."""
    token, errors = home.path / "token", home.path / "errors"
    command = [home.program, "mcp", "serve", "--transport", "http", "--port", "0", "--token-file", str(token)]
    with subprocess.Popen(command, env=home.environment, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            # It says where it is and where its token is before it lets anybody in.
            url = server.stderr.readline().removeprefix("MCP server: ").strip()
            server.stderr.readline()
            yield Server(url=url, token=token.read_text().strip(), errors=errors)
        finally:
            server.terminate()
            said = server.stderr.read()
        assert server.wait() == 0 and said == "", f"the server said: {said}"


async def check(home: Home, server: Server, mode: str, seconds: float) -> None:
    """Runs all checks in one session."""
    with anyio.fail_after(seconds):
        async with server.session(mode) as session:
            await everything(session, home)


async def check_together(home: Home, server: Server, seconds: float) -> None:
    """Runs all checks in several sessions at once."""
    async with anyio.create_task_group() as tasks:
        for mode in MODES * 2:
            tasks.start_soon(check, home, server, mode, seconds)


def main() -> None:
    """Runs them for each way to reach a server and to begin a session."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", help="the program pyro")
    parser.add_argument("--guest", action="store_true", help="in guests under QEMU, not in host sandboxes")
    arguments = parser.parse_args()
    config = GUEST if arguments.guest else SANDBOX
    seconds = SECONDS_MAX[config]
    # Guests boot slowly where there is no KVM, so one way has to do there.
    for mode in MODES if config == SANDBOX else MODES[-1:]:
        with made_home(arguments.program, config) as home:
            errors = home.path / "errors"
            server = Server([home.program, "mcp", "serve"], home.environment, errors=errors)
            anyio.run(check, home, server, mode, seconds)
            assert errors.read_text() == "", f"the server said: {errors.read_text()}"
        passed(f"stdio {mode}", config)
        if config == GUEST:
            continue
        with made_home(arguments.program, config) as home, listening(home) as server:
            anyio.run(check, home, server, mode, seconds)
        passed(f"HTTP {mode}", config)
    if config == SANDBOX:
        with made_home(arguments.program, config) as home, listening(home) as server:
            anyio.run(check_together, home, server, seconds)
        passed(f"HTTP {len(MODES) * 2} sessions at once", config)


def passed(what: str, config: str) -> None:
    """Tells what has passed."""
    place = "host sandbox" if config == SANDBOX else "QEMU"
    print(f"[mcp-clients] mcp {version('mcp')} {what}, {place}: passed", flush=True)


if __name__ == "__main__":
    main()
