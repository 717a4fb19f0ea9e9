"""The least that a token broker in Python can cost: an asyncio.Protocol that answers, nothing else.

    python -IS floors.py asyncio         SOCKET REQUEST REPLY PATH...  answers the bytes of REPLY
    python -IS floors.py asyncio+msgpack SOCKET REQUEST REPLY PATH...  decodes, encodes

It starts as bare as our daemon does, without the site's hooks; PATHs are where packages are. REQUEST
and REPLY hold what a real client sends and what the real broker answered to it. No credentials are
checked, nothing is counted or written down: what a broker costs beyond these is what it does.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path


BUFFER = 1024 * 1024


class Bytes(asyncio.Protocol):
    """Counts requests by their length."""

    request = reply = b""

    def connection_made(self, transport):
        self.transport = transport
        self.waiting = 0

    def data_received(self, data):
        whole, self.waiting = divmod(self.waiting + len(data), len(self.request))
        self.transport.write(self.reply * whole)


class MessagePack(asyncio.Protocol):
    """Reads [0, msgid, method, [params]], answers [1, msgid, nil, result]."""

    result = packer = msgpack = None

    def connection_made(self, transport):
        self.transport = transport
        self.unpacker = self.msgpack.Unpacker(max_buffer_size=BUFFER)

    def data_received(self, data):
        self.unpacker.feed(data)
        for _, msgid, _, _ in self.unpacker:
            self.transport.write(self.packer.pack([1, msgid, None, self.result]))


async def main(kind, path, request, reply, *packages):
    sys.path += packages
    Bytes.request, Bytes.reply = Path(request).read_bytes(), Path(reply).read_bytes()
    floor = Bytes
    if kind == "asyncio+msgpack":
        import msgpack

        floor = MessagePack
        MessagePack.msgpack, MessagePack.packer = msgpack, msgpack.Packer()
        MessagePack.result = msgpack.unpackb(Bytes.reply)[3]
    server = await asyncio.get_running_loop().create_unix_server(floor, path)
    await server.serve_forever()


asyncio.run(main(*sys.argv[1:]))
