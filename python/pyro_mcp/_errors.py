"""What a call can fail with."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional


class PyroError(Exception):
    """A call that failed.

    `str(error)` is for people. `code` is a stable word for programs, such as `unknown_workspace`; docs/exit-codes.md lists
    them. `hint` says what can be done about it and is `None` when there is nothing to say.
    """

    code: str
    hint: Optional[str]

    def __init__(self, message: str, code: str = "internal", hint: Optional[str] = None) -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint

    def __reduce__(self) -> tuple[type[PyroError], tuple[str, str, Optional[str]]]:
        return type(self), (str(self), self.code, self.hint)


class InvalidArgumentError(PyroError, ValueError):
    """An argument has a value that is not possible."""


class UnknownIdError(PyroError, ValueError):
    """There is no such environment, VM, workspace, command or shell, or more than one."""


class StateError(PyroError, RuntimeError):
    """It is not possible as things are, and nothing was done."""


class UnavailableError(PyroError, RuntimeError):
    """Something that is needed is missing on this host or does not work."""


class OperationFailedError(PyroError, RuntimeError):
    """It was tried and failed, or nobody can tell any more how it ended; `code` says which."""


class CanceledError(PyroError, RuntimeError):
    """Somebody asked for the end of the call."""


class TransportError(PyroError, RuntimeError):
    """There is no daemon to talk to, or it does not understand."""


class ExpectTimeoutError(PyroError, TimeoutError):
    """What was expected of a shell did not come in time; `output` is what came instead."""

    output: str

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message, "expect_timeout")
        self.output = output

    def __reduce__(self) -> tuple[type[PyroError], tuple[str, str]]:  # type: ignore[override]
        return type(self), (str(self), self.output)


_CODES: dict[type[PyroError], tuple[str, ...]] = {
    InvalidArgumentError: (
        "invalid_argument",
        "name_taken",
        "request_id_reused",
        "source_unusable",
    ),
    UnknownIdError: (
        "unknown_environment",
        "unknown_vm",
        "unknown_workspace",
        "unknown_exec",
        "unknown_shell",
        "ambiguous_id",
    ),
    StateError: (
        "invalid_state",
        "expired",
        "limit_reached",
        "result_gone",
        "shell_busy",
        "shell_ended",
        "source_refused",
        "history_compacted",
    ),
    UnavailableError: (
        "environment_unavailable",
        "tool_missing",
        "guest_unavailable",
        "storage_full",
        "home_unusable",
        "invalid_config",
        "unsupported",
    ),
    OperationFailedError: (
        "exec_failed",
        "exec_lost",
        "shell_failed",
        "shell_lost",
        "sync_failed",
        "sync_lost",
        "mount_failed",
        "storage_failed",
        "log_poisoned",
        "log_corrupt",
        "output_failed",
        "internal",
    ),
    CanceledError: ("canceled",),
    TransportError: (
        "daemon_unavailable",
        "daemon_running",
        "daemon_stopping",
        "version_mismatch",
        "protocol_violation",
    ),
}

_CLASSES = {code: kind for kind, codes in _CODES.items() for code in codes}


def error_of(code: str, message: str, hint: Optional[str]) -> PyroError:
    """Returns the exception for an error of the daemon or the way to it."""
    return _CLASSES.get(code, OperationFailedError)(message, code, hint)
