"""The package in its process: threads, signals, memory, and what an import costs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pyro_mcp import Pyro, Workspace

# `make python-leak` sets it to 10,000.
LEAK_EXECS = int(os.environ.get("PYRO_LEAK_EXECS", "500"))
# What the process may grow by, in KiB.
LEAK_KIB_MAX = 5 * 1024


def test_one_client_serves_many_threads(pyro: Pyro) -> None:
    """Catches answers that reach another thread than the one that asked, and threads that wait for each other."""

    def work(number: int) -> None:
        with pyro.workspace("debian:12", mem_mib=128, allow_host_compat=True) as ws:
            for turn in range(50):
                result = ws.exec(f"echo {number} {turn}")
                assert (result["stdout"], result["sequence"]) == (f"{number} {turn}\n", turn + 1)

    with ThreadPoolExecutor(32) as pool:
        for future in [pool.submit(work, number) for number in range(32)]:
            future.result()


def test_other_threads_run_while_one_waits(ws: Workspace) -> None:
    """Catches a call that keeps the interpreter locked: the command ends only when another thread has done its part."""
    thread = threading.Thread(target=lambda: ws.exec("touch seen"))
    with ws.exec_stream("echo ready; until [ -e seen ]; do sleep 0.01; done") as stream:
        next(stream)
        thread.start()
        assert stream.wait()["exit_code"] == 0
    thread.join()


INTERRUPTED = """
import sys
from pyro_mcp import Pyro
ws = Pyro(base_dir=sys.argv[1]).get_workspace(sys.argv[2])
try:
    ws.exec("sleep 1000", timeout_seconds=1000)
except KeyboardInterrupt:
    print("interrupted", ws.exec("echo again")["stdout"], end="")
"""


def test_ctrl_c_ends_the_call_and_the_command(home: Path, ws: Workspace) -> None:
    """Catches a call that cannot be interrupted, and a command that goes on without its caller."""
    events = ws.events(kinds=["exec_*"], follow=True)
    arguments = [sys.executable, "-X", "dev", "-W", "error", "-c", INTERRUPTED, str(home), ws.id]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as child:
        assert next(event for event in events if event["kind"] == "exec_started")
        child.send_signal(signal.SIGINT)
        assert child.communicate()[0] == "interrupted again\n"
    assert child.returncode == 0
    assert next(event for event in events if event["kind"] == "exec_exited")
    ended = {entry["command"]: entry["exit_code"] for entry in ws.logs()["entries"]}
    assert ended == {"sleep 1000": 137, "echo again": 0}


def resident_kib() -> int:
    """Returns the memory of this process that is in use, in KiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def test_commands_leave_nothing_behind(ws: Workspace) -> None:
    """Catches memory, files and threads that are kept after a call."""
    for _ in range(200):
        ws.exec("true")
    files, threads, memory = (
        len(os.listdir("/proc/self/fd")),
        len(os.listdir("/proc/self/task")),
        resident_kib(),
    )
    for _ in range(LEAK_EXECS):
        ws.exec("true")
    # A thread that has told the end of its call may still be on its way out; another call gives it time.
    for _ in range(100):
        if len(os.listdir("/proc/self/task")) <= threads:
            break
        ws.exec("true")
    assert len(os.listdir("/proc/self/task")) <= threads
    assert len(os.listdir("/proc/self/fd")) <= files
    assert resident_kib() - memory < LEAK_KIB_MAX


LAZY = """
import os, sys
from pyro_mcp import Pyro, create_server
pyro = Pyro(base_dir=sys.argv[1])
create_server(pyro)
assert os.listdir(sys.argv[1]) == [], "something was started or written"
assert not {"asyncio", "typing", "json", "subprocess"} & (sys.modules.keys() - before), "something heavy was imported"
"""


def test_nothing_happens_before_the_first_call(tmp_path: Path) -> None:
    """Catches a constructor that starts a daemon, and an import that others wait for."""
    code = "import sys; before = set(sys.modules)\n" + LAZY
    subprocess.run([sys.executable, "-X", "dev", "-W", "error", "-c", code, str(tmp_path)], check=True)


def test_forked_child_can_ask_as_well(pyro: Pyro, ws: Workspace) -> None:
    """Catches a connection or a lock that a child inherits from its parent."""
    code = "import os, sys; from pyro_mcp import Pyro\nws = Pyro(base_dir=sys.argv[1]).get_workspace(sys.argv[2])\n"
    code += "ws.exec('true'); pid = os.fork()\nassert ws.exec('echo $$')['exit_code'] == 0\n"
    code += "sys.exit(0 if pid == 0 else os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    subprocess.run([sys.executable, "-c", code, str(pyro.home), ws.id], check=True)
    assert ws.status()["command_count"] == 3
