"""The scenes of openai, anthropic and litellm once more, by clients that `copilot_broker.http` makes.

    by_package.py openai|anthropic|litellm        plays all, as `driving` says, for one way
    by_package.py leave CLIENT                    begins a stream, takes a piece, and leaves

It runs in an environment full of keys, addresses and proxies, which are for others.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import socket
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from driving import Way, _played, scenes

from copilot_broker import http


MANY = 20


def made(module):
    """Be the `client` of a module of scenes."""

    def client(way, key=None, kind=None):
        more = {"api_key": key} if key else {}
        kind = kind or (module.OpenAI if hasattr(module, "OpenAI") else module.Anthropic)
        return MAKERS[kind.__name__](max_retries=0, **more)

    return client


MAKERS = {
    "OpenAI": http.openai_client,
    "AsyncOpenAI": http.async_openai_client,
    "Anthropic": http.anthropic_client,
    "AsyncAnthropic": http.async_anthropic_client,
}


def chat(client, text="hi", **more):
    messages = [{"role": "user", "content": text}]
    if hasattr(client, "chat"):
        return client.chat.completions.create(model="sim-chat", messages=messages, **more)
    return client.messages.create(model="sim-claude", max_tokens=100, messages=messages, **more)


def text_of(answer):
    return (
        answer.choices[0].message.content if hasattr(answer, "choices") else answer.content[0].text
    )


# More scenes, of both SDKs


def more_scenes(name):
    """Name and scene; a maker of coroutines is asked by way of asyncio."""
    sync = {"openai": "OpenAI", "anthropic": "Anthropic"}[name]
    later = f"Async{sync}"

    def many_at_once(_):
        with MAKERS[sync]() as client, ThreadPoolExecutor(MANY) as pool:
            told = pool.map(lambda n: text_of(chat(client, f"<{n}>")), range(MANY))
            return [f"<{n}>" in each for n, each in enumerate(told)]

    async def many_at_once_async(_):
        async with MAKERS[later]() as client:
            told = await asyncio.gather(*(chat(client, f"<{n}>") for n in range(MANY)))
            return [f"<{n}>" in text_of(each) for n, each in enumerate(told)]

    async def stream_async(_):
        pieces = []
        async with MAKERS[later]() as client:
            async for each in await chat(client, stream=True):
                pieces.append(getattr(each, "type", "chunk"))
        return len(pieces) > 3

    def account(_):
        told = []
        for each in ("default", "nobody"):
            with MAKERS[sync](account=each, max_retries=0) as client:
                try:
                    told.append(text_of(chat(client)))
                except Exception as error:
                    told += [type(error).__name__, error.body.get("error", error.body)["code"]]
        return told

    def nobody_there(_):
        with MAKERS[sync](path="/nowhere/http.sock", max_retries=0) as client:
            try:
                chat(client)
            except Exception as error:
                causes = [type(error).__name__]
                while error := error.__cause__:
                    causes.append(type(error).__name__)
                    hint = getattr(error, "hint", "")
                return [*causes, hint]

    def sent(_):
        """Whose keys are in what goes out: to a socket of the scene's own."""
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
            path = str(Path(folder) / "http.sock")
            listener.bind(path)
            listener.listen()
            heads = []

            def serve():
                sock, _ = listener.accept()
                with sock:
                    heads.append(sock.recv(65536).decode().lower())
                    sock.sendall(b"HTTP/1.1 418 no\r\ncontent-length: 0\r\n\r\n")

            thread = threading.Thread(target=serve)
            thread.start()
            with MAKERS[sync](path=path, max_retries=0) as client, contextlib.suppress(Exception):
                chat(client)
            thread.join()
            (head,) = heads
            words = ("authorization", "api-key", "not-needed", "of-somebody-elses")
            return ["host: localhost" in head, *(each for each in words if each in head)]

    def library(_):
        with MAKERS[sync]() as client:
            kinds = [type(client._client).__mro__[1].__module__.partition(".")[0]]
            return [*kinds, client._client.trust_env, client.timeout.read > 600]

    found = (many_at_once, many_at_once_async, stream_async, account, nobody_there, sent, library)
    return {each.__name__: each for each in found}


def litellm_scenes():
    """With an older openai below, and so the older httpx."""
    import litellm

    def asked(**more):
        messages = [{"role": "user", "content": "hi"}]
        return {"model": "openai/sim-chat", "messages": messages, **more}

    def litellm_chat(_):
        with http.openai_client() as client:
            return litellm.completion(**asked(client=client)).choices[0].message.content

    async def litellm_async(_):
        async with http.async_openai_client() as client:
            chunks = await litellm.acompletion(**asked(client=client, stream=True))
            return "".join([each.choices[0].delta.content or "" async for each in chunks])

    def litellm_embedding(_):
        with http.openai_client() as client:
            answer = litellm.embedding(model="openai/sim-embedding", input=["one"], client=client)
            return len(answer.data)

    return {each.__name__: each for each in (litellm_chat, litellm_async, litellm_embedding)}


async def leave(name):
    """Begin, take one piece, leave."""
    client = MAKERS[name]()
    if name.startswith("Async"):
        async with client:
            stream = await chat(client, stream=True)
            async for _ in stream:
                break
            await stream.close()
    else:
        with client, chat(client, stream=True) as stream:
            next(iter(stream))


def main():
    what = sys.argv[1]
    if what == "leave":
        asyncio.run(leave(sys.argv[2]))
        return
    given = json.load(sys.stdin) | {"root": "http://localhost"}
    way = Way("package", **given)
    with contextlib.redirect_stdout(sys.stderr):
        if what == "litellm":
            todo = litellm_scenes() | more_scenes("openai")
        else:
            module = importlib.import_module(f"{what}_sdk")
            module.client = made(module)
            todo = scenes(vars(module)) | more_scenes(what)
        told = {name: _played(each, way) for name, each in todo.items()}
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
