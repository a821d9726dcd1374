"""Each method against a real daemon: its answer has exactly the keys and types that are promised."""

from __future__ import annotations

import pickle
import uuid
from pathlib import Path
from typing import Any

import pytest
from shape import fits

from pyro_mcp import (
    InvalidArgumentError,
    Pyro,
    PyroError,
    StateError,
    UnknownIdError,
    Workspace,
    results,
)
from pyro_mcp._errors import _CODES, error_of
from pyro_mcp._native import ERROR_CODES

VM = {"environment": "debian:12", "mem_mib": 128, "allow_host_compat": True}


def check(value: Any, kind: Any) -> Any:
    """Returns an answer that has its type."""
    assert fits(value, kind), f"{value} is no {kind}"
    return value


def test_environments(pyro: Pyro) -> None:
    """Catches a key of an environment that is not promised, and one that is missing."""
    environments = pyro.list_environments()
    assert [check(env, results.EnvObject)["name"] for env in environments] == sorted(
        env["name"] for env in environments
    )
    assert check(pyro.inspect_environment("debian:12"), results.EnvObject)["installed"] is True
    check(pyro.pull_environment("debian:12"), results.PullResult)
    with pytest.raises(UnknownIdError) as caught:
        pyro.inspect_environment("plan9")
    assert caught.value.code == "unknown_environment"


def test_vms(pyro: Pyro) -> None:
    """Catches the same for VMs, and a VM that outlives its command."""
    created = check(pyro.create_vm(**VM), results.VmObject)
    vm_id = created["vm_id"]
    assert created["state"] == "created"
    assert check(pyro.network_info_vm(vm_id), results.NetworkInfo)["network_enabled"] is False
    assert check(pyro.start_vm(vm_id), results.VmObject)["state"] == "started"
    assert check(pyro.stop_vm(vm_id), results.VmObject)["state"] == "stopped"
    with pytest.raises(StateError):
        pyro.exec_vm(vm_id, command="true")
    pyro.start_vm(vm_id)
    assert check(pyro.status_vm(vm_id), results.VmObject)["execution_mode"] == "host_compat"
    result = check(pyro.exec_vm(vm_id, command="echo out; echo err >&2; exit 3"), results.RunResult)
    assert (result["stdout"], result["stderr"], result["exit_code"]) == ("out\n", "err\n", 3)
    assert result["cleanup"]["deleted"] is True
    with pytest.raises(UnknownIdError):
        pyro.status_vm(vm_id)
    assert check(pyro.run_in_vm(command="kill -9 $$", **VM), results.RunResult)["signal"] == "KILL"
    vm_id = pyro.create_vm(**VM)["vm_id"]
    assert check(pyro.delete_vm(vm_id), results.DeleteResult)["reason"] == "explicit_delete"
    assert check(pyro.reap_expired(), results.ReapResult)["count"] == 0


def test_workspaces(pyro: Pyro, tmp_path: Path) -> None:
    """Catches the same for workspaces, and paths of the host that are not made whole."""
    (tmp_path / "file").write_text("content")
    created = check(pyro.create_workspace(**VM, seed_path=tmp_path), results.WorkspaceObject)
    assert created["workspace_seed"]["entry_count"] == 1
    workspace_id = created["workspace_id"]
    check(pyro.push_workspace_sync(workspace_id, tmp_path, dest="more"), results.SyncResult)
    result = check(pyro.exec_workspace(workspace_id, command="cat file more/file"), results.ExecResult)
    assert result["stdout"] == "contentcontent"
    late = check(
        pyro.exec_workspace(workspace_id, command="sleep 100", timeout_seconds=1), results.ExecResult
    )
    assert late["exit_code"] == 124 and late["timed_out"]
    raw = pyro.exec_workspace(workspace_id, command=r"printf '\377'; head -c 3000000 /dev/zero >&2")
    assert check(raw, results.ExecResult)["stdout_lossy"] and raw["stdout"] == "\ufffd"
    assert raw["stderr_truncated"] and raw["stderr_bytes"] == 3_000_000
    assert check(pyro.status_workspace(workspace_id), results.WorkspaceObject)["command_count"] == 3
    assert check(pyro.logs_workspace(workspace_id), results.WorkspaceLogs)["count"] == 3
    assert check(pyro.stop_workspace(workspace_id), results.WorkspaceObject)["state"] == "stopped"
    assert check(pyro.start_workspace(workspace_id), results.WorkspaceObject)["state"] == "started"
    listed = check(pyro.list_workspaces(), results.WorkspaceList)
    assert workspace_id in [workspace["workspace_id"] for workspace in listed["workspaces"]]
    check(pyro.delete_workspace(workspace_id), results.WorkspaceDeleteResult)


def test_shells(pyro: Pyro, ws: Workspace) -> None:
    """Catches the same for shells."""
    shell = check(pyro.open_shell(ws.id, cols=80, rows=24), results.ShellObject)
    ids = (ws.id, shell["shell_id"])
    assert check(pyro.write_shell(*ids, input="exit"), results.ShellWriteResult)["input_length"] == 4
    check(pyro.read_shell(*ids, cursor=0, max_chars=1), results.ShellReadResult)
    check(pyro.list_shells(ws.id), results.ShellList)
    other = pyro.open_shell(ws.id)["shell_id"]
    assert check(pyro.resize_shell(ws.id, other, cols=40, rows=10), results.ShellObject)["cols"] == 40
    assert check(pyro.signal_shell(ws.id, other), results.ShellSignalResult)["signal"] == "INT"
    assert check(pyro.close_shell(ws.id, other), results.ShellCloseResult)["closed"] is True
    check(pyro.close_shell(*ids), results.ShellCloseResult)


def test_events(pyro: Pyro, ws: Workspace) -> None:
    """Catches filters that do not filter, and an actor who is not told."""
    ws.exec("true")
    events = [check(event, results.LogEvent) for event in ws.events()]
    assert [event["seq"] for event in events] == sorted(event["seq"] for event in events)
    assert {event["workspace_id"] for event in events} == {ws.id}
    asked = next(event for event in events if event["kind"] == "exec_requested")
    assert asked["actor"]["face"] == "python" and asked["actor"]["client"].startswith("pyro_mcp/")
    kinds = {event["kind"] for event in pyro.events(kinds=["exec_*"], workspace=ws.id)}
    assert kinds and all(kind.startswith("exec_") for kind in kinds)
    assert [event["seq"] for event in pyro.events(limit=1, until=3)] == [3]


def test_request_ids_make_repetitions_harmless(pyro: Pyro, ws: Workspace) -> None:
    """Catches a request id that is lost on the way, and one that sticks to later calls."""
    again = pyro.once(str(uuid.uuid4()))
    first = again.exec_workspace(ws.id, command="echo $$")
    assert again.exec_workspace(ws.id, command="echo $$") == first
    assert pyro.exec_workspace(ws.id, command="echo $$")["sequence"] == first["sequence"] + 1
    with pytest.raises(InvalidArgumentError) as caught:
        again.exec_workspace(ws.id, command="echo something else")
    assert caught.value.code == "request_id_reused"
    with pyro.once(str(uuid.uuid4())).workspace(**VM) as other:
        assert other.exec("true")["sequence"] == 1


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("timeout_seconds", "3"),
        ("timeout_seconds", -1),
        ("timeout_seconds", 2**70),
        ("command", 3),
        ("command", None),
    ],
)
def test_wrong_arguments_are_named(pyro: Pyro, argument: str, value: object) -> None:
    """Catches an argument that is bent to what fits, and an error that does not say which one it is about."""
    arguments: dict[str, Any] = {"command": "true", argument: value}
    with pytest.raises(ValueError, match=f"^{argument}: ") as caught:
        pyro.exec_workspace("0" * 12, **arguments)
    assert isinstance(caught.value, PyroError) and caught.value.code == "invalid_argument"


def test_missing_sources_are_argument_errors(pyro: Pyro, ws: Workspace) -> None:
    """Catches a path that only the daemon looks for."""
    with pytest.raises(InvalidArgumentError, match="/nonexistent"):
        ws.push("/nonexistent")
    with pytest.raises(InvalidArgumentError, match="/nonexistent"):
        pyro.create_workspace(environment="debian:12", seed_path="/nonexistent")


def test_every_code_has_its_class() -> None:
    """Catches a new code of the daemon that nobody sorted, and an error that cannot be pickled."""
    sorted_codes = [code for codes in _CODES.values() for code in codes]
    assert sorted(sorted_codes) == sorted(ERROR_CODES)
    for code in ERROR_CODES:
        error = error_of(code, "message", "hint")
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error) and (str(copy), copy.code, copy.hint) == ("message", code, "hint")
        assert isinstance(error, (ValueError, RuntimeError)) and isinstance(error, PyroError)


def test_home_that_cannot_be_used_says_so(tmp_path: Path) -> None:
    """Catches a start that fails in silence, and a home that is found to be impossible too late."""
    (tmp_path / "config.toml").write_text("nonsense")
    with pytest.raises(RuntimeError) as caught:
        Pyro(base_dir=tmp_path).list_workspaces()
    assert isinstance(caught.value, PyroError) and caught.value.code == "invalid_config"
    with pytest.raises(PyroError, match="too long"):
        Pyro(base_dir="/tmp/" + "x" * 100)
