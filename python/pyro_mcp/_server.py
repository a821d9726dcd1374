"""The MCP server of the package."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

    from ._client import Pyro


class Server:
    """The MCP server: the program `pyro mcp serve` of this installation, with the home of a `Pyro`."""

    def __init__(self, pyro: Pyro) -> None:
        self._pyro = pyro

    def run(self, transport: str = "stdio") -> None:
        """Serves one client on standard input and output, and returns when the client is gone.

        Nothing else in the process may read or write them meanwhile. The only transport is `stdio`. Raises `ValueError` for
        another one and `TransportError` when the server fails.
        """
        import os
        import subprocess

        from ._errors import InvalidArgumentError, TransportError

        if transport != "stdio":
            raise InvalidArgumentError(f"unknown transport {transport!r}; known: stdio", "invalid_argument")
        program = str(self._pyro.program)
        environment = {**os.environ, "PYRO_HOME": str(self._pyro.home)}
        try:
            server = subprocess.Popen([program, "mcp", "serve"], env=environment)
        except OSError as error:
            raise TransportError(f"failed to start {program}: {error}", "daemon_unavailable") from error
        try:
            status = server.wait()
        except BaseException:
            server.terminate()
            server.wait()
            raise
        if status != 0:
            raise TransportError(f"the MCP server ended with status {status}", "daemon_unavailable")


def create_server(pyro: Optional[Pyro] = None) -> Server:
    """Returns the MCP server of a `Pyro`, or of a new one. It starts nothing until it runs."""
    if pyro is None:
        from ._client import Pyro

        pyro = Pyro()
    return Server(pyro)
