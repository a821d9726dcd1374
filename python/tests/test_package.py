"""The wheel, the examples and the documentation."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from pyro_mcp import InvalidArgumentError, Pyro, __version__

EXAMPLES = sorted((ROOT / "python/examples").glob("*.py"))
VERSIONS = ["3.9", "3.10", "3.11", "3.12", "3.13", "3.14"]


def interpreter(version: str) -> str | None:
    """Returns the path of an interpreter; `None` when there is none on this machine."""
    installed = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    return str(installed[-1]) if installed else shutil.which(f"python{version}")


@pytest.mark.parametrize("version", VERSIONS)
def test_wheel_works_in_a_clean_environment(version: str, home: Path, tmp_path: Path) -> None:
    """Catches a wheel that lacks a file, needs another package, or finds its programs only in one place."""
    python = interpreter(version)
    if python is None:
        pytest.skip(f"Python {version} is not installed")
    wheel = os.environ["PYRO_TEST_WHEEL"]
    venv = tmp_path / "venv"
    subprocess.run([python, "-m", "venv", "--without-pip", str(venv)], check=True)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "-q",
        "--disable-pip-version-check",
        "--python",
        str(venv / "bin/python"),
    ]
    subprocess.run([*pip, "install", "--no-index", "--no-compile", wheel], check=True)
    code = (
        "import sys; from pyro_mcp import Pyro, AsyncPyro, results; pyro = Pyro(base_dir=sys.argv[1])\n"
        "with pyro.workspace('debian:12', mem_mib=128, allow_host_compat=True) as ws:\n"
        "    print(pyro.program, ws.exec('echo works')['stdout'], end='')"
    )
    arguments = [str(venv / "bin/python"), "-X", "dev", "-W", "error", "-c", code, str(home)]
    printed = subprocess.run(arguments, check=True, stdout=subprocess.PIPE, text=True).stdout
    assert printed == f"{venv}/bin/pyro works\n"
    printed = subprocess.run(
        [venv / "bin/pyro", "--version"], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    assert printed == f"pyro {__version__}\n"
    assert os.access(venv / "libexec/pyro/pyro-guest-agent", os.X_OK)
    assert os.access(venv / "libexec/pyro/vhost-device-vsock", os.X_OK)


def run(home: Path, arguments: list[str]) -> str:
    """Runs Python and returns what it printed; warnings are errors."""
    environment = {**os.environ, "PYRO_HOME": str(home)}
    command = [sys.executable, "-X", "dev", "-W", "error", *arguments]
    result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return result.stdout


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_prints_what_the_documentation_shows(example: Path, guest_home: Path) -> None:
    """Catches an example that does not run in a real guest, and documentation that shows something else."""
    printed = run(guest_home, [str(example)])
    page = (ROOT / "docs/python.md").read_text()
    shown = re.search(rf"\$ python python/examples/{example.name}\n(.*?)```", page, re.DOTALL)
    assert shown is not None, f"docs/python.md does not show {example.name}"
    # Workspaces that run side by side take turns as they like.
    assert sorted(printed.splitlines()) == sorted(shown[1].splitlines())


@pytest.mark.parametrize("name", ["README.md", "docs/python.md"])
def test_snippets_run_in_a_guest(name: str, guest_home: Path) -> None:
    """Catches a snippet that does not run, and output below it that nobody ever saw."""
    snippets = re.findall(r"```python\n(.*?)```\n(?:\n```\n(.*?)```)?", (ROOT / name).read_text(), re.DOTALL)
    assert snippets, f"{name} has no snippet"
    for code, shown in snippets:
        printed = run(guest_home, ["-c", code])
        if shown:
            assert printed == shown, code


def test_examples_and_package_have_types(tmp_path: Path) -> None:
    """Catches a type that does not fit, a method without one, and a wheel whose types nobody finds."""
    mypy = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path)]
    subprocess.run([*mypy, "python/pyro_mcp"], cwd=ROOT, check=True)
    subprocess.run([*mypy, "--config-file=", "--strict", *map(str, EXAMPLES)], cwd=tmp_path, check=True)


def test_server_knows_its_transports(home: Path) -> None:
    """Catches a transport that is silently taken for another one."""
    with pytest.raises(InvalidArgumentError, match="smoke signals"):
        Pyro(base_dir=home).create_server().run(transport="smoke signals")
