"""Homes for tests, each with a daemon of its own that ends with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyro_mcp import Pyro, Workspace

ROOT = Path(__file__).parents[2]
SANDBOX = 'backend = "host_sandbox"\n'
GUEST = 'backend = "qemu"\naccelerator = "tcg"\n'


def make_home(config: str) -> Iterator[Path]:
    """Makes a home, and ends its daemon and all it started."""
    # Its path must be short, because sockets lie in it.
    home = Path(tempfile.mkdtemp(prefix="pyro"))
    (home / "config.toml").write_text(config)
    try:
        yield home
    finally:
        pyro = Pyro(base_dir=home)
        for workspace in pyro.list_workspaces()["workspaces"]:
            pyro.delete_workspace(workspace["workspace_id"])
        stop_daemon(home)
        shutil.rmtree(home)


def stop_daemon(home: Path) -> None:
    """Ends the daemon of a home."""
    program = str(Pyro(base_dir=home).program)
    environment = {**os.environ, "PYRO_HOME": str(home)}
    subprocess.run([program, "daemon", "stop"], env=environment, check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A home in which guests are host sandboxes."""
    yield from make_home(SANDBOX)


@pytest.fixture(scope="module")
def guest_home() -> Iterator[Path]:
    """A home in which guests are VMs."""
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("qemu-system-x86_64 is not installed")
    yield from make_home(GUEST)


@pytest.fixture(scope="module")
def pyro(home: Path) -> Pyro:
    """The way to that home."""
    return Pyro(base_dir=home)


@pytest.fixture
def ws(pyro: Pyro) -> Iterator[Workspace]:
    """A workspace in it."""
    with pyro.workspace("debian:12", mem_mib=128, allow_host_compat=True) as workspace:
        yield workspace
