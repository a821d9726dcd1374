"""Disposable Linux workspaces for agents and people.

    from pyro_mcp import Pyro

    with Pyro().workspace("debian:12") as ws:
        print(ws.exec("git --version")["stdout"])

`Pyro` has the methods of the public contract, each of which returns plain dictionaries; `pyro_mcp.results` describes their
keys. `Workspace` and `Shell` are the same without ids. `AsyncPyro` has the same methods as coroutines. Errors are
`PyroError` and its subclasses.
"""

from __future__ import annotations

from ._client import Pyro
from ._errors import (
    CanceledError,
    ExpectTimeoutError,
    InvalidArgumentError,
    OperationFailedError,
    PyroError,
    StateError,
    TransportError,
    UnavailableError,
    UnknownIdError,
)
from ._native import __version__
from ._output import Output
from ._server import Server, create_server
from ._shell import Expected, Shell
from ._streams import EventStream, ExecStream
from ._workspace import Workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._async_client import AsyncPyro
    from ._async_shell import AsyncShell
    from ._async_streams import AsyncEventStream, AsyncExecStream
    from ._async_workspace import AsyncWorkspace

__all__ = [
    "AsyncEventStream",
    "AsyncExecStream",
    "AsyncPyro",
    "AsyncShell",
    "AsyncWorkspace",
    "CanceledError",
    "EventStream",
    "ExecStream",
    "ExpectTimeoutError",
    "Expected",
    "InvalidArgumentError",
    "OperationFailedError",
    "Output",
    "Pyro",
    "PyroError",
    "Server",
    "Shell",
    "StateError",
    "TransportError",
    "UnavailableError",
    "UnknownIdError",
    "Workspace",
    "__version__",
    "create_server",
]


def __getattr__(name: str) -> object:
    # Whoever uses no event loop does not wait for asyncio to be imported.
    if name.startswith("Async") and name in __all__:
        from . import _async_client, _async_shell, _async_streams, _async_workspace

        modules = (_async_client, _async_shell, _async_streams, _async_workspace)
        return next(getattr(module, name) for module in modules if hasattr(module, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
