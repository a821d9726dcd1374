"""One way to use the official client, whichever of its versions is installed.

What the server answers is handed on as it was on the wire, because the versions name the same fields differently.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anyio
import mcp
from mcp import StdioServerParameters
from mcp.client.stdio import stdio_client

NEWEST = int(version("mcp").partition(".")[0]) >= 2

Json = dict[str, Any]
Progress = Callable[[float, "float | None", "str | None"], Awaitable[None]]


class Refused(Exception):
    """An error of the protocol, in place of an answer."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclass
class Notices:
    """The notifications of a server that no call took."""

    arrived: list[tuple[str, Json]] = field(default_factory=list)
    _news: anyio.Event = field(default_factory=anyio.Event)

    async def take(self, message: Any) -> None:
        """Takes what the client did not understand as an answer."""
        if isinstance(message, Exception):
            raise message
        message = wire(getattr(message, "root", message))
        self.push(message.get("method", ""), message.get("params") or {})

    def push(self, method: str, params: Json) -> None:
        """Takes a notification."""
        self.arrived.append((method, params))
        self._news.set()
        self._news = anyio.Event()

    async def wait(self, method: str, uri: str | None = None) -> None:
        """Waits for a notification, of a resource if one is named, and forgets those that came before it."""
        while True:
            for place, (name, params) in enumerate(self.arrived):
                if name == method and (uri is None or params.get("uri") == uri):
                    del self.arrived[: place + 1]
                    return
            await self._news.wait()


class Session:
    """A session of the official client with a server."""

    def __init__(self, client: Any, session: Any, notices: Notices) -> None:
        self._client = client
        self._session = session
        self.notices = notices

    @property
    def stateless(self) -> bool:
        """Whether it speaks the protocol in which nothing is initialized, pinged and subscribed to."""
        return self._client is not None and self._client.protocol_version >= "2026"

    async def _ask(self, asked: Awaitable[Any]) -> Json:
        try:
            return wire(await asked)
        except Exception as error:
            told = getattr(error, "error", error)
            if hasattr(told, "code"):
                raise Refused(told.code, told.message) from error
            raise

    async def ping(self) -> None:
        """Asks for a sign of life."""
        await self._ask(self._session.send_ping())

    async def tools(self) -> list[Json]:
        """Returns the tools, with which answers are compared from then on."""
        return (await self._ask(self._session.list_tools()))["tools"]

    async def call(self, tool: str, progress: Progress | None = None, **arguments: Any) -> Json:
        """Calls a tool. What it answers must fit its schema."""
        return await self._ask(self._session.call_tool(tool, arguments, progress_callback=progress))

    async def done(self, tool: str, **arguments: Any) -> Json:
        """Calls a tool that succeeds."""
        result = await self.call(tool, **arguments)
        assert not result.get("isError"), f"{tool}: {result}"
        assert result["content"], f"{tool} says nothing"
        return result["structuredContent"]

    async def refused(self, tool: str, **arguments: Any) -> str:
        """Calls a tool that fails, and returns what it says."""
        result = await self.call(tool, **arguments)
        assert result.get("isError"), f"{tool} took {arguments}: {result}"
        return result["content"][0]["text"]

    async def call_and_leave(self, tool: str, started: Callable[[], Awaitable[None]], **arguments: Any) -> None:
        """Calls a tool, and takes the call back once it has started."""
        number = None

        async def call() -> None:
            nonlocal number
            number = getattr(self._session, "_request_id", None)
            await self.call(tool, **arguments)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await started()
            if not NEWEST:
                # This version only stops to wait: who wants the server to know says it.
                cancelled = mcp.types.CancelledNotification(
                    method="notifications/cancelled",
                    params=mcp.types.CancelledNotificationParams(requestId=number, reason="enough"),
                )
                await self._session.send_notification(mcp.types.ClientNotification(cancelled))
            tasks.cancel_scope.cancel()

    async def resources(self) -> list[str]:
        """Returns the names of all resources."""
        return [resource["uri"] for resource in (await self._ask(self._session.list_resources()))["resources"]]

    async def templates(self) -> list[str]:
        """Returns the templates of their names."""
        listed = await self._ask(self._session.list_resource_templates())
        return [template["uriTemplate"] for template in listed["resourceTemplates"]]

    async def read(self, uri: str) -> str:
        """Returns the text of a resource."""
        read = await self._ask(self._session.read_resource(uri))
        return read["contents"][0]["text"]

    @asynccontextmanager
    async def subscribed(self, uri: str) -> AsyncIterator[None]:
        """Is told of a resource, and of what is listed, meanwhile."""
        if not self.stateless:
            # The newer client warns of what only older protocols have.
            warnings.simplefilter("ignore")
            await self._ask(self._session.subscribe_resource(uri))
            yield
            await self._ask(self._session.unsubscribe_resource(uri))
            return
        async with self._client.listen(resources_list_changed=True, resource_subscriptions=[uri]) as events:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._hand_on, events)
                yield
                tasks.cancel_scope.cancel()

    async def _hand_on(self, events: AsyncIterator[Any]) -> None:
        async for event in events:
            uri = getattr(event, "uri", None)
            if uri is None:
                self.notices.push("notifications/resources/list_changed", {})
            else:
                self.notices.push("notifications/resources/updated", {"uri": str(uri)})

    async def prompts(self) -> list[str]:
        """Returns the names of all prompts."""
        return [prompt["name"] for prompt in (await self._ask(self._session.list_prompts()))["prompts"]]

    async def prompt(self, name: str, **arguments: str) -> str:
        """Returns the text of a prompt."""
        prompt = await self._ask(self._session.get_prompt(name, arguments))
        return prompt["messages"][0]["content"]["text"]


def wire(model: Any) -> Json:
    """Returns a model as it is on the wire."""
    return json.loads(model.model_dump_json(by_alias=True, exclude_none=True))


@dataclass(frozen=True)
class Server:
    """A server: a program that is started for each session, or an address with what must be shown there."""

    command: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    url: str = ""
    token: str = ""
    errors: Path = Path("/dev/null")

    @asynccontextmanager
    async def _transport(self) -> AsyncIterator[Any]:
        if not self.url:
            program, *arguments = self.command
            parameters = StdioServerParameters(command=program, args=arguments, env=self.environment)
            ended = False
            try:
                with self.errors.open("a") as errors:
                    async with stdio_client(parameters, errlog=errors) as streams:
                        yield streams
                        ended = True
            except* anyio.BrokenResourceError:
                # 1.x stumbles over a notice that comes while it leaves.
                if NEWEST or not ended:
                    raise
            return
        from mcp.client.streamable_http import streamable_http_client
        from mcp.shared._httpx_utils import create_mcp_http_client

        headers = {"Authorization": f"Bearer {self.token}"}
        async with create_mcp_http_client(headers=headers) as http:
            async with streamable_http_client(self.url, http_client=http) as streams:
                yield streams

    @asynccontextmanager
    async def session(self, mode: str = "legacy") -> AsyncIterator[Session]:
        """Begins a session: with a handshake, or with what both sides speak that is newest (`auto`)."""
        notices = Notices()
        async with AsyncExitStack() as stack:
            if NEWEST:
                client = mcp.Client(self._transport(), mode=mode, message_handler=notices.take)
                await stack.enter_async_context(client)
                assert client.server_info.name == "pyro_mcp" and client.instructions, client
                yield Session(client, client.session, notices)
                return
            assert mode == "legacy", "this client has only one way to begin"
            read, write, *_ = await stack.enter_async_context(self._transport())
            session = await stack.enter_async_context(
                mcp.ClientSession(read, write, message_handler=notices.take)
            )
            welcome = wire(await session.initialize())
            assert welcome["serverInfo"]["name"] == "pyro_mcp" and welcome["instructions"], welcome
            yield Session(None, session, notices)
