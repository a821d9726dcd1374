"""Calls that an event loop waits for."""

from __future__ import annotations

import asyncio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._native import Call


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


async def next_news(call: Call) -> tuple[Any, ...]:
    """Waits for news. A wait that is canceled loses none."""
    loop = asyncio.get_running_loop()
    while True:
        news = call.poll()
        if news is not None:
            return news
        waiter: asyncio.Future[None] = loop.create_future()
        loop.add_reader(call.fileno(), _wake, waiter)
        try:
            await waiter
        finally:
            loop.remove_reader(call.fileno())


async def result_of(call: Call) -> Any:
    """Waits for the end. A wait that is canceled ends what the call began."""
    try:
        while True:
            news = await next_news(call)
            if news[0] == "ended":
                return news[1]
    except asyncio.CancelledError:
        call.cancel()
        raise
