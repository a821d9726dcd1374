"""Output and events as they come."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from pyro_mcp import CanceledError, Output, Pyro, Workspace


def test_output_comes_while_the_command_runs(ws: Workspace) -> None:
    """Catches output that is held back until the end: the command ends only when its first line was seen."""
    with ws.exec_stream(
        "echo ready; until [ -e seen ]; do sleep 0.01; done; echo done >&2; exit 3"
    ) as stream:
        first = next(stream)
        assert (first.stream, first.data, first.text, first.lost_bytes) == (
            "stdout",
            b"ready\n",
            "ready\n",
            0,
        )
        ws.exec("touch seen")
        assert [piece.text for piece in stream if piece.stream == "stderr"] == ["done\n"]
    result = stream.wait()
    assert (result["stdout"], result["stderr"], result["exit_code"]) == ("ready\n", "done\n", 3)


def test_pieces_join_to_the_whole_and_cut_no_character(ws: Workspace) -> None:
    """Catches bytes that are lost between pieces, and a character that becomes two broken ones."""
    pieces: list[Output] = []
    command = r"i=0; while [ $i -lt 20000 ]; do echo 'ä漢😀'; i=$((i + 1)); done; printf '\303'"
    ws.exec(command, on_output=pieces.append)
    text = "ä漢😀\n" * 20_000
    assert b"".join(piece.data for piece in pieces) == text.encode() + b"\xc3"
    assert "".join(piece.text for piece in pieces) == text + "\ufffd"


def test_command_ends_when_nobody_listens_any_more(ws: Workspace) -> None:
    """Catches a command that goes on after its stream was closed, dropped, or left by an error."""
    for number in range(3):
        stream = ws.exec_stream("echo ready; exec sleep 1000")
        next(stream)
        if number == 0:
            stream.close()
            with pytest.raises(CanceledError):
                stream.wait()
        del stream

    def refuse(piece: Output) -> None:
        raise KeyError(piece.text)

    with pytest.raises(KeyError):
        ws.exec("echo ready; exec sleep 1000", on_output=refuse)
    for event in ws.events(kinds=["exec_*"], follow=True):
        if event["kind"] == "exec_exited" and event["data"]["exec"] == 4:
            break
    assert [entry["signal"] for entry in ws.logs()["entries"]] == ["KILL"] * 4


def test_slow_reader_gets_everything(ws: Workspace) -> None:
    """Catches output that is dropped because the queue is full."""
    stream = ws.exec_stream("head -c 20000000 /dev/zero; echo written >&2")
    # The reader begins when all of it waits in the queue, the socket and the daemon.
    next(ws.events(kinds=["exec_exited"], follow=True))
    assert sum(len(piece.data) for piece in stream if piece.stream == "stdout") == 20_000_000
    assert stream.wait()["exit_code"] == 0


def test_followed_events_go_on_with_the_next_daemon(pyro: Pyro, ws: Workspace) -> None:
    """Catches a follower that ends with its daemon, and one that gets an event twice."""
    events = ws.events(follow=True)
    seen = [next(events)["seq"]]
    os.kill(pyro._ask("daemon_status")["pid"], signal.SIGKILL)
    ws.exec("true")
    for event in events:
        seen.append(event["seq"])
        if event["kind"] == "exec_exited":
            break
    assert seen == sorted(set(seen))
    events.close()
    assert next(events, None) is None


def test_events_can_be_closed_from_another_thread(ws: Workspace) -> None:
    """Catches a follower that waits for ever."""
    events = ws.events(follow=True)
    closer = threading.Thread(target=events.close)
    for event in events:
        if event["kind"] == "workspace_started":
            closer.start()
    closer.join()
