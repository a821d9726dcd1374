"""A shell in a workspace."""

from __future__ import annotations

import codecs
import re
import time

from ._errors import ExpectTimeoutError, StateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Optional, Union

    from ._client import Pyro
    from ._native import Call
    from .results import ShellCloseResult, ShellObject, ShellReadResult, ShellSignalResult, ShellWriteResult

# What steers a terminal: operating system commands up to their end, control sequences, and the short ones.
_CONTROL = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[PX^_][^\x1b]*\x1b\\|\x1b\[[0-?]*[ -/]*[@-~]|\x1b[ -/]*[0-OQ-WYZ\\`-~]|[\x00-\x08\x0b\x0c\x0e-\x1a]"
)

# A sequence without its end, so far.
_UNFINISHED = re.compile(r"(?:\x1b(?:\][^\x07\x1b]*\x1b?|[PX^_][^\x1b]*\x1b?|\[[0-?]*[ -/]*|[ -/]*)|\r)\Z")

# Longest sequence that is waited for, in characters: what is longer is no sequence but something that looks like one.
_UNFINISHED_MAX = 4096

# Most text that waits to be taken, in characters.
_TEXT_MAX = 4 * 1024 * 1024


class Expected:
    """What a shell printed up to a match.

    `before` is the text before it, `match` the match itself, as of `re`.
    """

    __slots__ = ("before", "match")

    before: str
    match: re.Match[str]

    def __init__(self, before: str, match: re.Match[str]) -> None:
        self.before = before
        self.match = match

    @property
    def text(self) -> str:
        """The text that matched."""
        return self.match.group()

    def __repr__(self) -> str:
        return f"Expected(before={self.before!r}, text={self.text!r})"


class Screen:
    """Text of a terminal that nobody took yet, the last 4 Mi characters of it.

    What steers the terminal is left out, and a line ends with `\\n`.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._raw = ""
        self.text = ""

    def feed(self, data: bytes) -> None:
        """Takes the next bytes."""
        raw = self._raw + self._decoder.decode(data)
        unfinished = _UNFINISHED.search(raw)
        cut = len(raw)
        if unfinished is not None and cut - unfinished.start() <= _UNFINISHED_MAX:
            cut = unfinished.start()
        self._raw = raw[cut:]
        plain = _CONTROL.sub("", raw[:cut]).replace("\r\n", "\n").replace("\r", "")
        self.text = (self.text + plain)[-_TEXT_MAX:]

    def take(self) -> str:
        """Takes all of the text."""
        text, self.text = self.text, ""
        return text

    def find(self, pattern: re.Pattern[str]) -> Optional[Expected]:
        """Takes the text up to the end of the first match; `None` leaves it as it is."""
        match = pattern.search(self.text)
        if match is None:
            return None
        before = self.text[: match.start()]
        self.text = self.text[match.end() :]
        return Expected(before, match)


def compiled(pattern: Union[str, re.Pattern[str]]) -> re.Pattern[str]:
    """Returns the pattern to search for; `^` and `$` stand for the ends of lines in one that is given as text."""
    return re.compile(pattern, re.MULTILINE) if isinstance(pattern, str) else pattern


def late(pattern: re.Pattern[str], timeout: float, screen: Screen) -> ExpectTimeoutError:
    """Returns the error for output that did not come in time."""
    return ExpectTimeoutError(f"{pattern.pattern!r} did not come in {timeout:g} s", screen.text)


def ended(pattern: re.Pattern[str]) -> StateError:
    """Returns the error for output that cannot come any more."""
    return StateError(f"the shell ended, and {pattern.pattern!r} had not come", "shell_ended")


class Shell:
    """A shell on a terminal in a workspace, which other clients can use as well.

        with ws.shell() as shell:
            shell.send("python3 -q")
            shell.expect(">>> ")
            shell.send("6 * 7")
            print(shell.expect(r"^\\d+$").text)

    `expect` and `output` see each character once, from the shell's beginning on, without what steers a terminal; of what
    does not match, the last 4 Mi characters wait. `read` is the call of the contract and takes nothing away. Leaving the
    `with` block closes the shell.
    """

    def __init__(self, pyro: Pyro, info: ShellObject) -> None:
        self._pyro = pyro
        self._call: Optional[Call] = None
        self._screen = Screen()
        self._over = False
        self.workspace_id: str = info["workspace_id"]
        self.shell_id: str = info["shell_id"]

    def __repr__(self) -> str:
        return f"<Shell {self.shell_id} in {self.workspace_id}>"

    def send(self, text: str, *, enter: bool = True) -> ShellWriteResult:
        """Types text, and Enter behind it."""
        return self._pyro.write_shell(self.workspace_id, self.shell_id, input=text, append_newline=enter)

    def expect(self, pattern: Union[str, re.Pattern[str]], timeout: float = 30.0) -> Expected:
        """Waits until the output matches a regular expression, and takes it up to the end of the match.

        The terminal shows what is typed, so a pattern that the typed text matches finds that first. `timeout` is in
        seconds. Raises `ExpectTimeoutError` when it is over, and `StateError` when the shell ends before; both leave the
        output to be taken by another call.
        """
        wanted = compiled(pattern)
        deadline = time.monotonic() + timeout
        while True:
            found = self._screen.find(wanted)
            if found is not None:
                return found
            if self._over:
                raise ended(wanted)
            if not self._feed(max(0.0, deadline - time.monotonic())) and time.monotonic() >= deadline:
                raise late(wanted, timeout, self._screen)

    def output(self) -> str:
        """Takes all text that is there, and waits for none. The first call may return less than the shell has printed."""
        while not self._over and self._feed(0.0):
            pass
        return self._screen.take()

    def read(self, *, cursor: int = 0, max_chars: int = 65536) -> ShellReadResult:
        """Reads what the shell printed, from a cursor on, as `Pyro.read_shell`."""
        return self._pyro.read_shell(self.workspace_id, self.shell_id, cursor=cursor, max_chars=max_chars)

    def signal(self, signal_name: str = "INT") -> ShellSignalResult:
        """Sends HUP, INT, TERM or KILL, as `Pyro.signal_shell`."""
        return self._pyro.signal_shell(self.workspace_id, self.shell_id, signal_name=signal_name)

    def resize(self, *, cols: int, rows: int) -> ShellObject:
        """Gives the terminal another size, in characters."""
        return self._pyro.resize_shell(self.workspace_id, self.shell_id, cols=cols, rows=rows)

    def close(self) -> ShellCloseResult:
        """Ends the shell and forgets it."""
        self._call, self._over = None, True
        return self._pyro.close_shell(self.workspace_id, self.shell_id)

    def _feed(self, timeout: float) -> bool:
        """Waits for output, and tells whether something came."""
        if self._call is None:
            self._call = self._pyro._start("shell_follow", self._ids())
        news = self._call.next(timeout)
        if news is None:
            return False
        if news[0] == "output":
            self._screen.feed(news[2])
        self._over = news[0] == "ended"
        return True

    def _ids(self) -> dict[str, Any]:
        return {"workspace_id": self.workspace_id, "shell_id": self.shell_id}

    def __enter__(self) -> Shell:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        if not self._over or self._call is not None:
            self.close()
