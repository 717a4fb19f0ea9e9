"""openai for Python: scenes of Chat Completions, Responses, embeddings, models and errors."""

from __future__ import annotations

import json

import openai
from driving import WEATHER, WISH, picture, play, refused, weather
from openai import AsyncOpenAI, OpenAI


try:
    import httpx2 as httpx
except ImportError:  # up to version 2
    import httpx

TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}
FLAT_TOOL = {"type": "function", "name": "get_weather", "parameters": WEATHER, "strict": False}


def client(way, key=None, kind=OpenAI):
    more = {}
    if way.socket and kind is OpenAI:
        more["http_client"] = httpx.Client(transport=httpx.HTTPTransport(uds=way.socket))
    elif way.socket:
        transport = httpx.AsyncHTTPTransport(uds=way.socket)
        more["http_client"] = httpx.AsyncClient(transport=transport)
    key = key or way.key
    return kind(base_url=f"{way.root}/v1", api_key=key, max_retries=0, timeout=30, **more)


def said(text):
    return [{"role": "user", "content": text}]


def scene_models(way):
    with client(way) as c:
        return [(each.id, each.object, each.owned_by) for each in c.models.list()]


def scene_model(way):
    with client(way) as c:
        each = c.models.retrieve("sim-chat")
        return each.id, each.object, each.owned_by, each.created


def scene_chat(way):
    with client(way) as c:
        answer = c.chat.completions.create(model="sim-chat", messages=said("Grüße"))
        choice = answer.choices[0]
        return choice.message.content, choice.finish_reason, answer.usage.total_tokens > 0


async def scene_chat_async(way):
    async with client(way, kind=AsyncOpenAI) as c:
        stream = await c.chat.completions.create(
            model="sim-chat", messages=said("Grüße"), stream=True
        )
        return "".join([each.choices[0].delta.content or "" async for each in stream])


def scene_chat_stream(way):
    with client(way) as c:
        stream = c.chat.completions.create(
            model="sim-chat",
            messages=said("Grüße"),
            stream=True,
            stream_options={"include_usage": True},
        )
        pieces, ends, usage = [], [], None
        for chunk in stream:
            usage = chunk.usage or usage
            for choice in chunk.choices:
                pieces.append(choice.delta.content or "")
                ends.append(choice.finish_reason)
        return "".join(pieces), len(pieces) > 3, ends[-1], usage.total_tokens > 0


def scene_chat_first_chunk(way):
    """The loop that everybody writes; Copilot's first chunk has no choices at all."""
    with client(way) as c:
        model = "sim-quirk-prompt_filter"
        stream = c.chat.completions.create(model=model, messages=said("hi"), stream=True)
        return "".join(each.choices[0].delta.content or "" for each in stream)


def scene_chat_helper(way):
    """The helper leaves out chunks without `object`, which Claude models send."""
    with (
        client(way) as c,
        c.chat.completions.stream(model="sim-claude", messages=said("hi")) as stream,
    ):
        pieces = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion().choices[0]
        return "".join(pieces), final.message.content, final.finish_reason


def _used_tool(way, model):
    with client(way) as c:
        messages = said(WISH)
        first = c.chat.completions.create(model=model, messages=messages, tools=[TOOL])
        choice = first.choices[0]
        (call,) = choice.message.tool_calls
        result = weather(**json.loads(call.function.arguments))
        messages += [
            choice.message.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": call.id, "content": result},
        ]
        last = c.chat.completions.create(model=model, messages=messages, tools=[TOOL])
        answer = last.choices[0]
        return choice.finish_reason, call.function.name, answer.message.content


def scene_tools(way):
    return _used_tool(way, "sim-chat")


def scene_tools_translated_to_responses(way):
    return _used_tool(way, "sim-responses")


def scene_tools_streamed(way):
    with (
        client(way) as c,
        c.chat.completions.stream(model="sim-claude", messages=said(WISH), tools=[TOOL]) as stream,
    ):
        kinds = {event.type for event in stream}
        choice = stream.get_final_completion().choices[0]
        (call,) = choice.message.tool_calls
        asked = json.loads(call.function.arguments)
        done = "tool_calls.function.arguments.done" in kinds
        return choice.finish_reason, call.function.name, asked, done


def scene_two_choices(way):
    with client(way) as c:
        model = "sim-quirk-two_choices"
        answer = c.chat.completions.create(model=model, messages=said("hi"), tools=[TOOL])
        (choice,) = answer.choices
        return choice.finish_reason, choice.message.tool_calls[0].function.name


def scene_vision(way):
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture()}"}},
    ]
    with client(way) as c:
        messages = [{"role": "user", "content": parts}]
        answer = c.chat.completions.create(model="sim-chat", messages=messages)
        return answer.choices[0].message.content


def scene_embeddings(way):
    """Without `encoding_format` it asks for base64, and decodes it."""
    with client(way) as c:
        texts = ["one", "two"]
        answer = c.embeddings.create(model="sim-embedding", input=texts, dimensions=4)
        floats = c.embeddings.create(
            model="an-alias-of-mine", input=texts, dimensions=4, encoding_format="float"
        )
        decoded, plain = ([each.embedding for each in told.data] for told in (answer, floats))
        close = [
            abs(a - b) < 1e-6
            for one, other in zip(decoded, plain, strict=True)
            for a, b in zip(one, other, strict=True)
        ]
        return len(decoded), len(decoded[0]), all(close), answer.usage.total_tokens > 0


def scene_responses(way):
    with client(way) as c:
        answer = c.responses.create(model="sim-responses", input="Grüße", store=True)
        return answer.output_text, answer.status, answer.usage.total_tokens > 0


def _streamed(way, model):
    with client(way) as c, c.responses.stream(model=model, input="hi") as stream:
        pieces = [each.delta for each in stream if each.type == "response.output_text.delta"]
        final = stream.get_final_response()
        return "".join(pieces), final.output_text, final.status


def scene_responses_stream(way):
    """Copilot gives each event's item another id."""
    return _streamed(way, "sim-quirk-unstable_ids")


def scene_responses_translated_to_chat(way):
    return _streamed(way, "sim-chat")


def _responses_tool(way, model):
    with client(way) as c:
        asked = said(WISH)
        first = c.responses.create(model=model, input=asked, tools=[FLAT_TOOL])
        (call,) = [each for each in first.output if each.type == "function_call"]
        result = weather(**json.loads(call.arguments))
        asked += [each.model_dump(exclude_none=True) for each in first.output]
        asked += [{"type": "function_call_output", "call_id": call.call_id, "output": result}]
        last = c.responses.create(model=model, input=asked, tools=[FLAT_TOOL])
        return call.name, last.output_text


def scene_responses_tools(way):
    return _responses_tool(way, "sim-responses")


def scene_responses_tools_translated_to_chat(way):
    return _responses_tool(way, "sim-chat")


def _refused(way, key=None, model="sim-chat", **more):
    with client(way, key) as c:
        try:
            for _ in range(3):
                c.chat.completions.create(model=model, messages=said("hi"), **more)
        except openai.APIError as error:
            return refused(error)
    return None


def scene_unknown_model(way):
    return _refused(way, model="no-such-model")


def scene_unknown_model_retrieved(way):
    with client(way) as c:
        try:
            c.models.retrieve("no-such-model")
        except openai.NotFoundError as error:
            return refused(error)
    return None


def scene_wrong_key(way):
    return _refused(way, way.wrong_key)


def scene_limited_by_key(way):
    return _refused(way, way.limited_key)


def scene_limited_upstream(way):
    return _refused(way, model="sim-small")


def scene_broken_stream(way):
    """Half an answer is not taken for one."""
    with client(way) as c:
        pieces = []
        try:
            stream = c.chat.completions.create(
                model="sim-quirk-error_midstream", messages=said("hi"), stream=True
            )
            pieces = [each.choices[0].delta.content or "" for each in stream]
        except openai.APIError as error:
            return refused(error)
    return pieces


if __name__ == "__main__":
    play(globals())
