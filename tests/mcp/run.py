"""Runs all checks with the official client of this virtual environment against a program `pyro`."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

import anyio

from checks import Home, everything
from session import NEWEST, Server, version

SANDBOX = 'backend = "host_sandbox"\n'
GUEST = 'backend = "qemu"\naccelerator = "tcg"\n'

# Longest time for all checks in one session, in seconds: something hangs, or a guest boots without KVM.
SECONDS_MAX = {SANDBOX: 120, GUEST: 900}


async def check(program: str, home: Path, config: str, mode: str) -> None:
    """Runs all checks in one session on standard input and output."""
    machine = {"environment": "debian:12", "mem_mib": 256, "allow_host_compat": config == SANDBOX}
    place = Home(program, home, machine)
    server = Server([program, "mcp", "serve"], place.environment, errors=home / "errors")
    with anyio.fail_after(SECONDS_MAX[config]):
        async with server.session(mode) as session:
            await everything(session, place)
    said = (home / "errors").read_text()
    assert said == "", f"the server said: {said}"


def main() -> None:
    """Runs them for each way to begin a session."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", help="the program pyro")
    parser.add_argument("--guest", action="store_true", help="in guests under QEMU, not in host sandboxes")
    arguments = parser.parse_args()
    config = GUEST if arguments.guest else SANDBOX
    for mode in ["legacy", "auto"] if NEWEST else ["legacy"]:
        # Its path must be short, because sockets lie in it.
        home = Path(tempfile.mkdtemp(prefix="pyro"))
        (home / "config.toml").write_text(config)
        try:
            anyio.run(check, arguments.program, home, config, mode)
        finally:
            stop = [arguments.program, "daemon", "stop"]
            environment = Home(arguments.program, home, {}).environment
            subprocess.run(stop, env=environment, check=True, stdout=subprocess.DEVNULL)
            shutil.rmtree(home)
        print(f"[mcp-clients] mcp {version('mcp')} stdio {mode} {config.split()[2]}: passed", flush=True)


if __name__ == "__main__":
    main()
