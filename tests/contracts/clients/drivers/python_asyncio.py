"""Drives the asyncio client; see `driving.py` for what is said on stdin and stdout."""

from __future__ import annotations

import asyncio
import json
import sys

from plain import arguments_of, error_of, members_of, plain

import copilot_broker


class Driver:
    def __init__(self):
        self.client = None
        self.streams = {}
        self.tasks = {}

    async def answer(self, asked):
        try:
            told = {"ok": await getattr(self, f"do_{asked['do']}")(asked)}
        except asyncio.CancelledError:
            told = {"cancelled": True}
        except Exception as error:
            told = {"error": error_of(error)}
        sys.stdout.write(json.dumps({"id": asked["id"], **told}) + "\n")
        sys.stdout.flush()

    async def do_open(self, asked):
        await self.do_close(asked)
        self.client = copilot_broker.AsyncClient(asked["path"], **asked["options"])

    async def do_close(self, _):
        if self.client is not None:
            await self.client.aclose()

    async def do_surface(self, _):
        return members_of(copilot_broker.AsyncClient)

    async def do_cancel(self, asked):
        self.tasks[asked["call"]].cancel()

    async def _ask(self, asked):
        needed, options = arguments_of(asked)
        return await getattr(self.client, asked["method"])(*needed, **options)

    async def do_call(self, asked):
        return plain(await self._ask(asked))

    async def do_shown(self, asked):
        found = await self._ask(asked)
        return {"shown": [repr(found), str(found), f"{[found]}"], "kept": plain(found)}

    async def do_begin(self, asked):
        stream = self.streams[asked["id"]] = await self._ask(asked)
        return {"stream": asked["id"], **plain(stream)}

    async def do_items(self, asked):
        """Take items until the end, or leave after some, as a program would."""
        stream, items, error = self.streams[asked["stream"]], [], None
        source = stream if asked["what"] == "chunks" else getattr(stream, asked["what"])()
        try:
            async for item in source:
                items.append(plain(item))
                if len(items) == asked["count"]:
                    break
        except Exception as raised:
            error = error_of(raised)
        if asked["leave"]:
            await stream.aclose()
        return {"items": items, "error": error, "refusal": plain(getattr(stream, "refusal", None))}

    async def do_leave(self, asked):
        await self.streams[asked["stream"]].aclose()


async def main():
    driver = Driver()
    reader = asyncio.StreamReader(limit=64 * 1024 * 1024)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        asked = json.loads(line)
        driver.tasks[asked["id"]] = asyncio.create_task(driver.answer(asked))


asyncio.run(main())
