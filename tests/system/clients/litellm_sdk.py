"""litellm: scenes through its providers for OpenAI's and Anthropic's APIs."""

from __future__ import annotations

import json

import httpx
import litellm
import openai
from driving import WEATHER, WISH, picture, play, refused, weather


TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}


def asking(way, text, model="openai/sim-chat", key=None, **more):
    """Say where to; by the Unix socket it takes a client of openai's, so no other provider."""
    given = {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "api_base": way.root if model.startswith("anthropic/") else f"{way.root}/v1",
        "api_key": key or way.key,
        "max_retries": 0,
        "timeout": 30,
    }
    if way.socket:
        transport = httpx.HTTPTransport(uds=way.socket)
        given["client"] = openai.OpenAI(
            base_url=f"{way.root}/v1",
            api_key=given["api_key"],
            max_retries=0,
            http_client=httpx.Client(transport=transport),
        )
    return given | more


def scene_chat(way):
    choice = litellm.completion(**asking(way, "Grüße")).choices[0]
    return choice.message.content, choice.finish_reason


def scene_chat_stream(way):
    chunks = litellm.completion(**asking(way, "Grüße", stream=True))
    return "".join(each.choices[0].delta.content or "" for each in chunks)


def scene_claude_stream(way):
    """Of a model whose chunks lack `object` and `index`."""
    chunks = litellm.completion(**asking(way, "Grüße", "openai/sim-claude", stream=True))
    return "".join(each.choices[0].delta.content or "" for each in chunks)


def _used_tool(way, model):
    asked = asking(way, WISH, model, tools=[TOOL])
    first = litellm.completion(**asked).choices[0]
    (call,) = first.message.tool_calls
    result = weather(**json.loads(call.function.arguments))
    asked["messages"] += [
        first.message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": result},
    ]
    last = litellm.completion(**asked).choices[0]
    return first.finish_reason, call.function.name, last.message.content


def scene_tools(way):
    return _used_tool(way, "openai/sim-chat")


def scene_vision(way):
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture()}"}},
    ]
    return litellm.completion(**asking(way, parts)).choices[0].message.content


def scene_embeddings(way):
    asked = asking(way, "", "openai/sim-embedding")
    asked.pop("messages")
    answer = litellm.embedding(**asked, input=["one", "two"])
    return len(answer.data), len(answer.data[0]["embedding"])


def _refused(way, model="openai/sim-chat", key=None):
    try:
        for _ in range(3):
            litellm.completion(**asking(way, "hi", model, key))
    except openai.APIError as error:
        return refused(error)
    return None


def scene_unknown_model(way):
    return _refused(way, "openai/no-such-model")


def scene_wrong_key(way):
    return _refused(way, key=way.wrong_key)


def scene_limited_by_key(way):
    return _refused(way, key=way.limited_key)


def scene_limited_upstream(way):
    return _refused(way, "openai/sim-small")


# By TCP only from here on: these providers have HTTP clients of litellm's own.


def scene_tcp_messages(way):
    choice = litellm.completion(**asking(way, "Grüße", "anthropic/sim-claude")).choices[0]
    return choice.message.content, choice.finish_reason


def scene_tcp_messages_stream(way):
    chunks = litellm.completion(**asking(way, "Grüße", "anthropic/sim-claude", stream=True))
    return "".join(each.choices[0].delta.content or "" for each in chunks)


def scene_tcp_messages_tools(way):
    return _used_tool(way, "anthropic/sim-claude")


async def scene_tcp_chat_async(way):
    chunks = await litellm.acompletion(**asking(way, "Grüße", stream=True))
    return "".join([each.choices[0].delta.content or "" async for each in chunks])


def scene_tcp_responses(way):
    asked = asking(way, "", "openai/sim-responses")
    asked.pop("messages")
    answer = litellm.responses(**asked, input="Grüße")
    return answer.output[0].content[0].text


def scene_tcp_responses_stream(way):
    asked = asking(way, "", "openai/sim-responses", stream=True)
    asked.pop("messages")
    events = litellm.responses(**asked, input="Grüße")
    return "".join(each.delta for each in events if each.type == "response.output_text.delta")


if __name__ == "__main__":
    play(globals())
