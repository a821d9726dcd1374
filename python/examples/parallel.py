"""Workspaces side by side: the same commands in several of them at once, with output as it comes."""

import argparse
import asyncio

from pyro_mcp import AsyncPyro

COMMANDS = {
    "primes": "i=2; while [ $i -lt 30 ]; do factor $i; i=$((i + 1)); done | awk 'NF == 2 { print $2 }'",
    "repository": "git init -q r && cd r && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m first && git log --oneline | wc -l",
    "failure": "echo something is wrong >&2; exit 3",
}


async def run(pyro: AsyncPyro, name: str, command: str, options: argparse.Namespace) -> int:
    """Runs a command in a workspace of its own and returns its exit code."""
    async with pyro.workspace(
        options.environment, mem_mib=512, allow_host_compat=options.allow_host_compat
    ) as ws:
        async with ws.exec_stream(command) as stream:
            async for piece in stream:
                for line in piece.text.splitlines():
                    print(f"[{name}] {line}")
        return (await stream.wait())["exit_code"]


async def main() -> None:
    """Runs the example."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--environment", default="debian:12")
    parser.add_argument("--allow-host-compat", action="store_true")
    options = parser.parse_args()
    pyro = AsyncPyro()
    codes = await asyncio.gather(*(run(pyro, name, command, options) for name, command in COMMANDS.items()))
    for name, code in zip(COMMANDS, codes):
        print(f"{name}: exit code {code}")


if __name__ == "__main__":
    asyncio.run(main())
