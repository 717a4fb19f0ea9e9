"""anthropic for Python: scenes of Messages, models, counting and errors."""

from __future__ import annotations

import anthropic
from anthropic import Anthropic, AsyncAnthropic
from driving import WEATHER, WISH, picture, play, refused, weather


try:
    import httpx2 as httpx
except ImportError:  # up to version 1
    import httpx

TOOL = {"name": "get_weather", "description": "the weather", "input_schema": WEATHER}


def client(way, key=None, kind=Anthropic):
    more = {}
    if way.socket and kind is Anthropic:
        more["http_client"] = httpx.Client(transport=httpx.HTTPTransport(uds=way.socket))
    elif way.socket:
        transport = httpx.AsyncHTTPTransport(uds=way.socket)
        more["http_client"] = httpx.AsyncClient(transport=transport)
    return kind(base_url=way.root, api_key=key or way.key, max_retries=0, timeout=30, **more)


def asking(text, model="sim-claude", **more):
    return {
        "model": model,
        "max_tokens": 100,
        "messages": [{"role": "user", "content": text}],
        **more,
    }


def scene_models(way):
    with client(way) as c:
        return [(each.id, each.type, bool(each.display_name)) for each in c.models.list()]


def scene_model(way):
    with client(way) as c:
        each = c.models.retrieve("sim-claude")
        return each.id, each.type, each.created_at.year


def scene_messages(way):
    with client(way) as c:
        answer = c.messages.create(**asking("Grüße", system="Be brief."))
        usage = answer.usage
        return answer.content[0].text, answer.stop_reason, usage.output_tokens > 0


def scene_named_by_alias(way):
    """Its own name for a model, which the configuration maps."""
    with client(way) as c:
        return c.messages.create(**asking("hi", "claude-sonnet-4-5-20250929")).content[0].text


async def scene_messages_async(way):
    async with (
        client(way, kind=AsyncAnthropic) as c,
        c.messages.stream(**asking("Grüße")) as stream,
    ):
        return "".join([text async for text in stream.text_stream])


def _streamed(way, model):
    with client(way) as c, c.messages.stream(**asking("Grüße", model)) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
        usage = final.usage
        return "".join(pieces), final.content[0].text, final.stop_reason, usage.output_tokens > 0


def scene_messages_stream(way):
    return _streamed(way, "sim-claude")


def scene_messages_translated_to_chat(way):
    return _streamed(way, "sim-chat")


def scene_messages_translated_to_responses(way):
    return _streamed(way, "sim-responses")


def _used_tool(way, model, *, streamed):
    asked = asking(WISH, model, tools=[TOOL])

    def told(c):
        if not streamed:
            return c.messages.create(**asked)
        with c.messages.stream(**asked) as stream:
            return stream.get_final_message()

    with client(way) as c:
        first = told(c)
        (call,) = [each for each in first.content if each.type == "tool_use"]
        result = {"type": "tool_result", "tool_use_id": call.id, "content": weather(**call.input)}
        content = [
            each.model_dump(exclude_none=True, include={"type", "text", "id", "name", "input"})
            for each in first.content
        ]
        asked["messages"] += [
            {"role": "assistant", "content": content},
            {"role": "user", "content": [result]},
        ]
        return first.stop_reason, call.name, told(c).content[0].text


def scene_tools(way):
    return _used_tool(way, "sim-claude", streamed=False)


def scene_tools_streamed(way):
    return _used_tool(way, "sim-claude", streamed=True)


def scene_tools_translated_to_chat(way):
    return _used_tool(way, "sim-chat", streamed=False)


def scene_tools_translated_to_chat_streamed(way):
    return _used_tool(way, "sim-chat", streamed=True)


def scene_tools_translated_to_responses(way):
    return _used_tool(way, "sim-responses", streamed=True)


def scene_vision(way):
    source = {"type": "base64", "media_type": "image/png", "data": picture()}
    parts = [{"type": "image", "source": source}, {"type": "text", "text": "What is this?"}]
    with client(way) as c:
        told = [c.messages.create(**asking(parts, model)) for model in ("sim-claude", "sim-chat")]
        return [each.content[0].text for each in told]


def scene_betas(way):
    """Copilot takes few of them, and fails on any other."""
    with client(way) as c:
        names = ["context-1m-2025-08-07", "interleaved-thinking-2025-05-14"]
        answer = c.beta.messages.create(**asking("hi"), betas=names)
        return answer.content[0].text


def scene_count_tokens(way):
    with client(way) as c:

        def counted(text):
            question = asking(text)
            question.pop("max_tokens")
            return c.messages.count_tokens(**question).input_tokens

        return counted("hi") > 0, counted("many words " * 100) > 10 * counted("hi")


def _refused(way, key=None, model="sim-claude"):
    with client(way, key) as c:
        try:
            for _ in range(3):
                c.messages.create(**asking("hi", model))
        except anthropic.APIStatusError as error:
            return refused(error)
    return None


def scene_unknown_model(way):
    return _refused(way, model="no-such-model")


def scene_wrong_key(way):
    return _refused(way, way.wrong_key)


def scene_wrong_token(way):
    """The same as `Authorization: Bearer`."""
    with client(way) as c:
        other = c.with_options(api_key=None, auth_token=way.wrong_key)
        try:
            other.messages.create(**asking("hi"))
        except anthropic.AuthenticationError as error:
            return refused(error)
    return None


def scene_limited_by_key(way):
    return _refused(way, way.limited_key)


def scene_limited_upstream(way):
    return _refused(way, model="sim-small")


def scene_broken_stream(way):
    """Half an answer is not taken for one."""
    try:
        return _streamed(way, "sim-quirk-error_midstream")
    except anthropic.APIError as error:
        return refused(error)


if __name__ == "__main__":
    play(globals())
