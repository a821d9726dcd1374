"""The dictionaries that the methods return.

Made from the schemas of the daemon's answers by `cargo run -p pyro-tests --bin python-types`. Keys of classes that are
declared with `total=False` are there only when they have something to say.
"""

from __future__ import annotations

from typing import Any, Optional, TypedDict, Union


class Cleanup(TypedDict):
    """What became of a VM after its command."""

    # Whether it is deleted.
    deleted: bool

    # Why.
    reason: str

    # The VM.
    vm_id: str


class ConnectedNetwork(TypedDict):
    """The network of a VM with outbound access."""

    # Name servers that the guest uses.
    dns_servers: list[str]

    # Address of the gateway.
    gateway_ip: str

    # Address of the guest.
    guest_ip: str

    # Hardware address of the guest.
    mac_address: str

    # Always true.
    network_enabled: bool

    # Whether connections to the outside should succeed.
    outbound_connectivity_expected: bool

    # The network that both are in.
    subnet_cidr: str

    # Its network device on the host; `null` with user-mode networking.
    tap_name: Optional[str]

    # The VM.
    vm_id: str


class DeleteResult(TypedDict):
    """A deleted VM."""

    # Always true.
    deleted: bool

    # Why.
    reason: str

    # The VM.
    vm_id: str


class _EnvObject(TypedDict):
    """An environment."""

    # Directory of all environments.
    cache_dir: str

    # Version of the catalog.
    catalog_version: str

    # Range of versions of pyro that have it.
    compatibility: str

    # Packages that are there for sure.
    default_packages: list[str]

    # One sentence about it.
    description: str

    # Name of the distribution.
    distribution: str

    # Version of the distribution.
    distribution_version: str

    # Directory of its installation, there or not.
    install_dir: str

    # Whether it can be used without a pull.
    installed: bool

    # Stable name, such as `debian:12`.
    name: str

    # Tag or digest there.
    oci_reference: Optional[str]

    # Host of the registry that it comes from; `None` when it is built here.
    oci_registry: Optional[str]

    # Repository there.
    oci_repository: Optional[str]

    # Operating system and processor.
    platform: str

    # SHA-256 of the root file system, in hexadecimal; `None` when it is built here.
    source_digest: Optional[str]

    # Version of its recipe.
    version: str


class EnvObject(_EnvObject, total=False):
    """An environment."""

    # Manifest of the installation; only there when it is installed.
    install_manifest: str


class EventActor(TypedDict):
    """Who asked for something."""

    # What the client called itself.
    client: str

    # The way in: `daemon`, `cli`, `mcp`, `python` or `fuse`.
    face: str

    # Process id.
    pid: int

    # User id.
    uid: int


class _ExecResult(TypedDict):
    """How a command in a workspace ended, with its output."""

    # The command line that `/bin/sh -lc` got.
    command: str

    # The directory that it ran in.
    cwd: str

    # Run time as measured in the guest, in milliseconds.
    duration_ms: int

    # Its environment.
    environment: str

    # Version of the environment.
    environment_version: Optional[str]

    # How the command got into the guest: `guest_vsock` or `host_compat`.
    execution_mode: str

    # Exit code; 128 and the signal's number after a signal, 124 after the timeout.
    exit_code: int

    # Number of the command in its workspace; the first is 1.
    sequence: int

    # Standard error: all of it, or beginning and end.
    stderr: str

    # Standard output: all of it, or beginning and end.
    stdout: str

    # The workspace.
    workspace_id: str


class ExecResult(_ExecResult, total=False):
    """How a command in a workspace ended, with its output."""

    # Name of the signal that ended it, such as `KILL`.
    signal: str

    # Length of all of standard error in bytes, when part of it is left out.
    stderr_bytes: int

    # Present when standard error was not UTF-8 and bytes of it are replaced.
    stderr_lossy: bool

    # Present when the middle of standard error is left out.
    stderr_truncated: bool

    # Length of all of standard output in bytes, when part of it is left out.
    stdout_bytes: int

    # Present when standard output was not UTF-8 and bytes of it are replaced.
    stdout_lossy: bool

    # Present when the middle of standard output is left out.
    stdout_truncated: bool

    # Present when the timeout ended it.
    timed_out: bool


class LastCommand(TypedDict):
    """The command that exited last in a workspace."""

    # The command line that `/bin/sh -lc` got.
    command: str

    # The directory that it ran in.
    cwd: str

    # Run time as measured in the guest, in milliseconds.
    duration_ms: int

    # How it got into the guest: `guest_vsock` or `host_compat`.
    execution_mode: str

    # Exit code; 128 and the signal's number after a signal, 124 after the timeout.
    exit_code: int

    # Its number; the first is 1.
    sequence: int


class _LogEntry(TypedDict):
    """A command that ended in a workspace, with its output."""

    # The command line that `/bin/sh -lc` got.
    command: str

    # The directory that it ran in.
    cwd: str

    # Run time as measured in the guest, in milliseconds; 0 when it is not known.
    duration_ms: int

    # How it got into the guest: `guest_vsock` or `host_compat`; `pending` when it did not.
    execution_mode: str

    # Exit code; 128 and the signal's number after a signal, 124 after the timeout; `null` when there is an
    # `error`.
    exit_code: Optional[int]

    # When its end was recorded, in seconds since 1970.
    recorded_at: float

    # Its number; the first is 1.
    sequence: int

    # Standard error: all of it, or beginning and end.
    stderr: str

    # The file with its standard error, on the host; not there when it printed nothing.
    stderr_file: str

    # Standard output: all of it, or beginning and end.
    stdout: str

    # The file with its standard output, on the host; not there when it printed nothing.
    stdout_file: str


class LogEntry(_LogEntry, total=False):
    """A command that ended in a workspace, with its output."""

    # Why there is no exit code: it never ran, or what became of it cannot be known.
    error: str

    # Name of the signal that ended it, such as `KILL`.
    signal: str

    # Length of all of standard error in bytes, when part of it is left out.
    stderr_bytes: int

    # Present when standard error was not UTF-8 and bytes of it are replaced.
    stderr_lossy: bool

    # Present when the middle of standard error is left out.
    stderr_truncated: bool

    # Length of all of standard output in bytes, when part of it is left out.
    stdout_bytes: int

    # Present when standard output was not UTF-8 and bytes of it are replaced.
    stdout_lossy: bool

    # Present when the middle of standard output is left out.
    stdout_truncated: bool

    # Present when the timeout ended it.
    timed_out: bool


class _LogEvent(TypedDict):
    """An event of the log."""

    # Who asked.
    actor: EventActor

    # When it happened, as in RFC 3339, in UTC.
    at: str

    # More about it; the keys depend on the kind.
    data: Any

    # What happened, in one word.
    kind: str

    # The request that led to it; `null` for what was observed.
    request_id: Optional[str]

    # Its position in the log; the first is 1.
    seq: int

    # The workspace or VM that it is about; `null` for the whole host.
    workspace_id: Optional[str]


class LogEvent(_LogEvent, total=False):
    """An event of the log."""

    # Its hash in hexadecimal, which stands for all events up to it; only where it was asked for.
    hash: str

    # Version of the record; only where it was asked for.
    version: int


class NoNetwork(TypedDict):
    """The network of a VM with loopback only."""

    # Always false.
    network_enabled: bool

    # Always false.
    outbound_connectivity_expected: bool

    # Why there is none.
    reason: str

    # The VM.
    vm_id: str

NetworkInfo = Union[ConnectedNetwork, NoNetwork]


class PruneResult(TypedDict):
    """What was removed."""

    # How many.
    count: int

    # The directories, sorted.
    deleted_environment_dirs: list[str]


class _PullResult(TypedDict):
    """An installed environment."""

    # Directory of all environments.
    cache_dir: str

    # Version of the catalog.
    catalog_version: str

    # Range of versions of pyro that have it.
    compatibility: str

    # Packages that are there for sure.
    default_packages: list[str]

    # One sentence about it.
    description: str

    # Name of the distribution.
    distribution: str

    # Version of the distribution.
    distribution_version: str

    # Directory of its installation, there or not.
    install_dir: str

    # Whether it can be used without a pull.
    installed: bool

    # Its kernel.
    kernel_image: str

    # Stable name, such as `debian:12`.
    name: str

    # Tag or digest there.
    oci_reference: Optional[str]

    # Host of the registry that it comes from; `None` when it is built here.
    oci_registry: Optional[str]

    # Repository there.
    oci_repository: Optional[str]

    # Operating system and processor.
    platform: str

    # Its root file system.
    rootfs_image: str

    # Where it came from.
    source: str

    # SHA-256 of the root file system, in hexadecimal; `None` when it is built here.
    source_digest: Optional[str]

    # Version of its recipe.
    version: str


class PullResult(_PullResult, total=False):
    """An installed environment."""

    # Manifest of the installation; only there when it is installed.
    install_manifest: str


class _ReapResult(TypedDict):
    """VMs and workspaces that were deleted because their time to live was over."""

    # How many of both.
    count: int

    # Ids of the VMs, sorted.
    deleted_vm_ids: list[str]


class ReapResult(_ReapResult, total=False):
    """VMs and workspaces that were deleted because their time to live was over."""

    # Ids of the workspaces, sorted; only there when there are some.
    deleted_workspace_ids: list[str]


class _RunResult(TypedDict):
    """How a command in a VM ended, with its output."""

    # What became of the VM.
    cleanup: Cleanup

    # The command line that `/bin/sh -lc` got.
    command: str

    # Run time as measured in the guest, in milliseconds.
    duration_ms: int

    # Its environment.
    environment: str

    # Version of the environment.
    environment_version: Optional[str]

    # How the command got into the guest: `guest_vsock` or `host_compat`.
    execution_mode: str

    # Exit code; 128 and the signal's number after a signal, 124 after the timeout.
    exit_code: int

    # Standard error: all of it, or beginning and end.
    stderr: str

    # Standard output: all of it, or beginning and end.
    stdout: str

    # The VM.
    vm_id: str


class RunResult(_RunResult, total=False):
    """How a command in a VM ended, with its output."""

    # Name of the signal that ended it, such as `KILL`.
    signal: str

    # Length of all of standard error in bytes, when part of it is left out.
    stderr_bytes: int

    # Present when standard error was not UTF-8 and bytes of it are replaced.
    stderr_lossy: bool

    # Present when the middle of standard error is left out.
    stderr_truncated: bool

    # Length of all of standard output in bytes, when part of it is left out.
    stdout_bytes: int

    # Present when standard output was not UTF-8 and bytes of it are replaced.
    stdout_lossy: bool

    # Present when the middle of standard output is left out.
    stdout_truncated: bool

    # Present when the timeout ended it.
    timed_out: bool


class _ShellCloseResult(TypedDict):
    """A shell that was closed."""

    # Always true.
    closed: bool

    # Width of its terminal in characters.
    cols: int

    # Directory that it began in.
    cwd: str

    # When it ended, in seconds since 1970; `null` while it runs.
    ended_at: Optional[float]

    # How commands get into its guest: `guest_vsock` or `host_compat`.
    execution_mode: str

    # Exit code, 128 and the signal's number after a signal; `null` while it runs and when its guest went
    # before it.
    exit_code: Optional[int]

    # Height of its terminal in characters.
    rows: int

    # Its id.
    shell_id: str

    # When it was opened, in seconds since 1970.
    started_at: float

    # `running` or `stopped`.
    state: str

    # Its workspace.
    workspace_id: str


class ShellCloseResult(_ShellCloseResult, total=False):
    """A shell that was closed."""

    # Why it stopped without an exit code; only there when it did.
    error: str


class _ShellObject(TypedDict):
    """A shell."""

    # Width of its terminal in characters.
    cols: int

    # Directory that it began in.
    cwd: str

    # When it ended, in seconds since 1970; `null` while it runs.
    ended_at: Optional[float]

    # How commands get into its guest: `guest_vsock` or `host_compat`.
    execution_mode: str

    # Exit code, 128 and the signal's number after a signal; `null` while it runs and when its guest went
    # before it.
    exit_code: Optional[int]

    # Height of its terminal in characters.
    rows: int

    # Its id.
    shell_id: str

    # When it was opened, in seconds since 1970.
    started_at: float

    # `running` or `stopped`.
    state: str

    # Its workspace.
    workspace_id: str


class ShellObject(_ShellObject, total=False):
    """A shell."""

    # Why it stopped without an exit code; only there when it did.
    error: str


class ShellList(TypedDict):
    """The shells of a workspace."""

    # How many.
    count: int

    # They, oldest first.
    shells: list[ShellObject]

    # The workspace.
    workspace_id: str


class _ShellReadResult(TypedDict):
    """What a shell printed."""

    # Width of its terminal in characters.
    cols: int

    # Where the output begins: the cursor that was asked for, or the end when that lies before it. A number of
    # bytes.
    cursor: int

    # Directory that it began in.
    cwd: str

    # When it ended, in seconds since 1970; `null` while it runs.
    ended_at: Optional[float]

    # How commands get into its guest: `guest_vsock` or `host_compat`.
    execution_mode: str

    # Exit code, 128 and the signal's number after a signal; `null` while it runs and when its guest went
    # before it.
    exit_code: Optional[int]

    # The cursor for what comes behind.
    next_cursor: int

    # The output, in whole characters.
    output: str

    # Height of its terminal in characters.
    rows: int

    # Its id.
    shell_id: str

    # When it was opened, in seconds since 1970.
    started_at: float

    # `running` or `stopped`.
    state: str

    # Whether there is more behind it already.
    truncated: bool

    # Its workspace.
    workspace_id: str


class ShellReadResult(_ShellReadResult, total=False):
    """What a shell printed."""

    # How many bytes between `cursor` and the output are not there any more; only there when there are any.
    dropped_bytes: int

    # Why it stopped without an exit code; only there when it did.
    error: str

    # Present when the output was not UTF-8 and bytes of it are replaced.
    output_lossy: bool

    # Present when what steers the terminal is left out.
    plain: bool


class _ShellSignalResult(TypedDict):
    """A signal that was sent to a shell."""

    # Width of its terminal in characters.
    cols: int

    # Directory that it began in.
    cwd: str

    # When it ended, in seconds since 1970; `null` while it runs.
    ended_at: Optional[float]

    # How commands get into its guest: `guest_vsock` or `host_compat`.
    execution_mode: str

    # Exit code, 128 and the signal's number after a signal; `null` while it runs and when its guest went
    # before it.
    exit_code: Optional[int]

    # Height of its terminal in characters.
    rows: int

    # Its id.
    shell_id: str

    # Which signal, without `SIG`.
    signal: str

    # When it was opened, in seconds since 1970.
    started_at: float

    # `running` or `stopped`.
    state: str

    # Its workspace.
    workspace_id: str


class ShellSignalResult(_ShellSignalResult, total=False):
    """A signal that was sent to a shell."""

    # Why it stopped without an exit code; only there when it did.
    error: str


class _ShellWriteResult(TypedDict):
    """Text that was typed into a shell."""

    # Whether Enter was typed behind it.
    append_newline: bool

    # Width of its terminal in characters.
    cols: int

    # Directory that it began in.
    cwd: str

    # When it ended, in seconds since 1970; `null` while it runs.
    ended_at: Optional[float]

    # How commands get into its guest: `guest_vsock` or `host_compat`.
    execution_mode: str

    # Exit code, 128 and the signal's number after a signal; `null` while it runs and when its guest went
    # before it.
    exit_code: Optional[int]

    # Characters of the text, without Enter.
    input_length: int

    # Height of its terminal in characters.
    rows: int

    # Its id.
    shell_id: str

    # When it was opened, in seconds since 1970.
    started_at: float

    # `running` or `stopped`.
    state: str

    # Its workspace.
    workspace_id: str


class ShellWriteResult(_ShellWriteResult, total=False):
    """Text that was typed into a shell."""

    # Why it stopped without an exit code; only there when it did.
    error: str


class WorkspaceSync(TypedDict):
    """What was brought into a workspace."""

    # How many bytes its files had.
    bytes_written: int

    # Where it went, in the guest.
    destination: str

    # How many files, directories and links it had; removals count as well.
    entry_count: int

    # The kind of source: `directory` or `tar_archive`.
    mode: str

    # The source on the host.
    source_path: str


class SyncResult(TypedDict):
    """Files that were brought into a workspace."""

    # How commands get into its guest: `guest_vsock` or `host_compat`.
    execution_mode: str

    # The workspace.
    workspace_id: str

    # What was brought.
    workspace_sync: WorkspaceSync


class VmObject(TypedDict):
    """A VM."""

    # Whether namespaces of the host's kernel were accepted in place of a VM.
    allow_host_compat: bool

    # When it was created, in seconds since 1970.
    created_at: float

    # Its environment.
    environment: str

    # Version of the environment.
    environment_version: Optional[str]

    # How commands get into the guest: `pending`, `guest_vsock` or `host_compat`.
    execution_mode: str

    # When its time to live is over, in seconds since 1970; `null` for never.
    expires_at: Optional[float]

    # Its address; `null` when it has none that the host could use.
    guest_ip: Optional[str]

    # Memory in MiB.
    mem_mib: int

    # More about it, such as `backend` and `accelerator`.
    metadata: dict[str, str]

    # Whether it has outbound network access.
    network_enabled: bool

    # Where it is in its life, such as `created`, `started` or `stopped`.
    state: str

    # Its network device on the host; `null` when it has none.
    tap_name: Optional[str]

    # Time to live in seconds; 0 for no end.
    ttl_seconds: int

    # Virtual CPUs.
    vcpu_count: int

    # Its id.
    vm_id: str


class WorkspaceDeleteResult(TypedDict):
    """A deleted workspace."""

    # Always true.
    deleted: bool

    # Why.
    reason: str

    # The workspace.
    workspace_id: str


class WorkspaceSeed(TypedDict):
    """What a workspace was filled with when it was created."""

    # How many bytes its files had.
    bytes_written: int

    # Where it went, in the guest.
    destination: str

    # How many files and directories it had.
    entry_count: int

    # The kind of source; `empty` for none.
    mode: str

    # The source on the host; `null` for none.
    seed_path: Optional[str]


class _WorkspaceObject(TypedDict):
    """A workspace."""

    # Whether namespaces of the host's kernel were accepted in place of a VM.
    allow_host_compat: bool

    # How many commands were run in it.
    command_count: int

    # When it was created, in seconds since 1970.
    created_at: float

    # Its environment.
    environment: str

    # Version of the environment.
    environment_version: Optional[str]

    # How commands get into the guest: `pending`, `guest_vsock` or `host_compat`.
    execution_mode: str

    # When its time to live is over, in seconds since 1970; `null` for never.
    expires_at: Optional[float]

    # Its address; `null` when it has none that the host could use.
    guest_ip: Optional[str]

    # The command that exited last; `null` before the first.
    last_command: Optional[LastCommand]

    # Memory in MiB.
    mem_mib: int

    # More about it, such as `backend`, `accelerator` and, when it is stopped, `stop_reason`.
    metadata: dict[str, str]

    # Whether it has outbound network access.
    network_enabled: bool

    # Where it is in its life: `starting`, `started`, `stopping`, `stopped` or `deleting`.
    state: str

    # Its network device on the host; `null` when it has none.
    tap_name: Optional[str]

    # Time to live from its creation, in seconds; 0 for no end.
    ttl_seconds: int

    # Virtual CPUs.
    vcpu_count: int

    # Its id.
    workspace_id: str

    # The directory of its files, in the guest.
    workspace_path: str

    # What it was filled with when it was created.
    workspace_seed: WorkspaceSeed


class WorkspaceObject(_WorkspaceObject, total=False):
    """A workspace."""

    # Its labels; only there when it has some.
    labels: dict[str, str]

    # Its name; only there when it has one.
    name: str


class WorkspaceList(TypedDict):
    """All workspaces."""

    # How many.
    count: int

    # They, oldest first.
    workspaces: list[WorkspaceObject]


class WorkspaceLogs(TypedDict):
    """The commands that ended in a workspace."""

    # How many there are here.
    count: int

    # They, by their numbers.
    entries: list[LogEntry]

    # The workspace.
    workspace_id: str

__all__ = [
    "Cleanup",
    "ConnectedNetwork",
    "DeleteResult",
    "EnvObject",
    "EventActor",
    "ExecResult",
    "LastCommand",
    "LogEntry",
    "LogEvent",
    "NetworkInfo",
    "NoNetwork",
    "PruneResult",
    "PullResult",
    "ReapResult",
    "RunResult",
    "ShellCloseResult",
    "ShellList",
    "ShellObject",
    "ShellReadResult",
    "ShellSignalResult",
    "ShellWriteResult",
    "SyncResult",
    "VmObject",
    "WorkspaceDeleteResult",
    "WorkspaceList",
    "WorkspaceLogs",
    "WorkspaceObject",
    "WorkspaceSeed",
    "WorkspaceSync",
]
