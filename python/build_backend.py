"""Builds a wheel with everything in it: the extension, the program `pyro`, and what goes into guests.

The hooks are those of PEP 517, over maturin's. `PYRO_DIST` names a directory that is laid out as `make build` does; without
it, the programs are built first, which takes minutes and needs what `make programs` needs.
"""

import os
import shutil
import subprocess

import maturin
from maturin import build_sdist, get_requires_for_build_sdist, get_requires_for_build_wheel

__all__ = ["build_sdist", "build_wheel", "get_requires_for_build_sdist", "get_requires_for_build_wheel"]

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DATA = os.path.join(ROOT, "target", "python", "data")


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    """Builds the wheel; see PEP 517."""
    dist = os.environ.get("PYRO_DIST")
    if dist is None:
        subprocess.run(["make", "programs"], cwd=ROOT, check=True)
        dist = os.path.join(ROOT, "target", "dist")
    # An installer makes `bin/pyro` of the one and `libexec/pyro` of the other, where the program looks for it.
    lay_out(os.path.join(dist, "bin"), os.path.join(DATA, "scripts"))
    lay_out(os.path.join(dist, "libexec"), os.path.join(DATA, "data", "libexec"))
    return maturin.build_wheel(wheel_directory, config_settings, metadata_directory)


def lay_out(source, destination):
    """Makes a directory the same as another."""
    shutil.rmtree(destination, ignore_errors=True)
    shutil.copytree(source, destination)
