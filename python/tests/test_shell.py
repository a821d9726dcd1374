"""Shells: what is expected of them, and what is left out of their output."""

from __future__ import annotations

import os
import re
import signal

import pytest

from pyro_mcp import ExpectTimeoutError, Pyro, Shell, StateError, Workspace
from pyro_mcp._shell import Screen


def test_expect_takes_each_character_once(ws: Workspace) -> None:
    """Catches text that is matched twice or lost between two calls."""
    with ws.shell() as shell:
        shell.send("echo $((6 * 7)); exec cat")
        assert shell.expect(r"^42$").match.group() == "42"
        shell.send("one two")
        # The terminal shows what is typed, then `cat` repeats it.
        assert shell.expect("one (t.o)").match[1] == "two"
        assert shell.expect(re.compile("two")).before == "\none "
        assert shell.expect("\n").before == ""
        assert shell.read()["cursor"] == 0
        assert shell.resize(cols=80, rows=24)["cols"] == 80
        shell.signal("INT")
        with pytest.raises(StateError, match="'never'"):
            shell.expect("never")
    with pytest.raises(ValueError):
        shell.read()


def test_output_that_does_not_come_is_no_loss(ws: Workspace) -> None:
    """Catches output that is gone after a time that was too short."""
    with ws.shell() as shell:
        shell.send("echo fi''rst; read line; echo sec''ond")
        with pytest.raises(ExpectTimeoutError) as caught:
            shell.expect("second", timeout=0.0)
        assert isinstance(caught.value, TimeoutError)
        shell.expect("^first\n")
        shell.send("")
        shell.expect("^second\n")
        shell.output()
        shell.close()


def test_shell_goes_on_with_the_next_daemon(pyro: Pyro, ws: Workspace) -> None:
    """Catches a shell object that is of no more use once its daemon was killed."""
    with ws.shell() as shell:
        shell.send("kept=42")
        os.kill(pyro._ask("daemon_status")["pid"], signal.SIGKILL)
        shell.send("echo $kept")
        shell.expect("^42$")


def test_shell_is_closed_when_its_block_fails(pyro: Pyro, ws: Workspace) -> None:
    """Catches shells that are left behind."""

    def fail(shell: Shell) -> None:
        raise KeyError(shell.shell_id)

    with pytest.raises(KeyError), ws.shell() as shell:
        fail(shell)
    assert pyro.list_shells(ws.id)["count"] == 0


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_screen_leaves_out_what_steers_the_terminal(size: int) -> None:
    """Catches a control sequence that is cut between two pieces and then taken for text."""
    raw = (
        "\x1b]0;title\x07\x1b[?2004h\x1b[1;31mred\x1b[0m\r\nä\x1b(B\x1b=漢\x1b]8;;x\x1b\\link\r\nrest\x07\x08"
    )
    data, screen = raw.encode(), Screen()
    for start in range(0, len(data), size):
        screen.feed(data[start : start + size])
    assert screen.take() == "red\nä漢link\nrest"
    assert screen.take() == ""


def test_screen_does_not_wait_for_ever_for_the_end_of_a_sequence() -> None:
    """Catches output that is held back because something in it looks like the beginning of a sequence."""
    screen = Screen()
    screen.feed(b"\x1b]" + b"x" * 10_000)
    assert "x" * 10_000 in screen.take()


def test_screen_keeps_only_so_much() -> None:
    """Catches a process that grows with the output of a job that never prints what is expected."""
    screen = Screen()
    for number in range(9):
        screen.feed(str(number).encode() * 1024 * 1024)
    assert screen.take() == "".join(str(number) * 1024 * 1024 for number in range(5, 9))
