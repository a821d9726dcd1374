"""Where the program `pyro` of this installation is."""

from __future__ import annotations

import os

from ._native import __version__


def find_program() -> str:
    """Returns the path of the program that was installed with this package, else of the one on the search path.

    Installers put programs where they like, and note the place in the list of installed files beside the package. A
    program that is nowhere is only missed when the daemon has to be started.
    """
    packages = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    record = os.path.join(packages, f"pyro_mcp-{__version__}.dist-info", "RECORD")
    try:
        with open(record, encoding="utf-8") as lines:
            for line in lines:
                path = line.split(",", 1)[0].strip('"')
                if os.path.basename(path) == "pyro":
                    return os.path.normpath(os.path.join(packages, path))
    except OSError:
        pass
    for directory in os.get_exec_path():
        path = os.path.join(directory, "pyro")
        if os.access(path, os.X_OK):
            return path
    return "pyro"
