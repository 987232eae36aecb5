"""The bodies of chat and text completions: which fields are supported, and their bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mindllm_jax.batching.chat_template import Message
from mindllm_jax.generation.requests import MOST_LOGPROBS
from mindllm_jax.generation.sampling import CANDIDATES
from mindllm_jax.serving.errors import ApiError
from mindllm_jax.serving.fields import Fields, kind

MAX_STOPS = 4
LONGEST_STOP = 1000  # characters; each new token is compared with it
MAX_CHOICES = 128
MAX_TEXT_LOGPROBS = 5

SUPPORTED = ("model", "n", "stop", "seed", "max_tokens", "temperature", "top_p", "top_k", "logprobs", "stream")
SUPPORTED += ("stream_options",)
CHAT = (*SUPPORTED, "messages", "max_completion_tokens", "top_logprobs")
TEXT = (*SUPPORTED, "prompt")
HARMLESS = ("user", "metadata", "store", "service_tier", "safety_identifier", "parallel_tool_calls")
HARMLESS += ("prompt_cache_key", "prompt_cache_retention")

# Fields of OpenAI's API that would change the answer, with the values that do not.
NEUTRAL: dict[str, tuple[Any, ...]] = {"frequency_penalty": (0,), "presence_penalty": (0,), "logit_bias": ({},)}
NEUTRAL_CHAT: dict[str, tuple[Any, ...]] = NEUTRAL | {
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
}
NEUTRAL_TEXT: dict[str, tuple[Any, ...]] = NEUTRAL | {"best_of": (1,), "echo": (False,), "suffix": ("",)}
NEUTRAL_MESSAGE: dict[str, tuple[Any, ...]] = {
    "tool_calls": ([],),
    "function_call": (),
    "tool_call_id": (),
    "audio": (),
    "refusal": ("",),
    "annotations": ([],),
}

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


@dataclass(frozen=True, kw_only=True)
class Body:
    """The fields that both kinds of completions have; None where one was left out.

    Attributes:
        model: the model's id.
        n: choices for each prompt.
        stop: stop strings.
        seed: of the draws; None: another one for each request.
        max_tokens: new tokens at most.
        temperature, top_p: as of `Sampling`.
        top_k: as of `Sampling`; 0: all tokens.
        logprobs: alternatives to report per token; None: no log-probabilities.
        stream: answer by server-sent events.
        include_usage: end the stream with the usage.
    """

    model: str
    n: int
    stop: tuple[str, ...]
    seed: int | None
    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    logprobs: int | None
    stream: bool
    include_usage: bool


@dataclass(frozen=True, kw_only=True)
class ChatBody(Body):
    """The body of POST /v1/chat/completions."""

    messages: tuple[Message, ...]


@dataclass(frozen=True, kw_only=True)
class TextBody(Body):
    """The body of POST /v1/completions; a prompt is a text or token ids."""

    prompts: tuple[str | tuple[int, ...], ...]


def chat_body(values: dict[str, Any]) -> ChatBody:
    """Reads the body of a chat completion. Raises ApiError (400) that names the field."""
    fields = Fields(values)
    fields.check_names(CHAT, HARMLESS, NEUTRAL_CHAT)
    top = fields.integer("top_logprobs", 0, MOST_LOGPROBS)
    wanted = fields.flag("logprobs")
    if top is not None and not wanted:
        fields.refuse("top_logprobs", "needs 'logprobs': true")
    messages = fields.required("messages", list)
    if not messages:
        fields.refuse("messages", "is empty: give at least one message of the role user")
    read = tuple(_message(message, f"messages[{number}]") for number, message in enumerate(messages))
    if read[-1].role != "user":
        fields.refuse("messages", f"ends with the role {read[-1].role}: the last message must be the user's")
    limit = fields.integer("max_completion_tokens", 1, 2**31 - 1)
    return ChatBody(messages=read, **_common(fields, (top or 0) if wanted else None, limit))


def text_body(values: dict[str, Any]) -> TextBody:
    """Reads the body of a text completion. Raises ApiError (400) that names the field."""
    fields = Fields(values)
    fields.check_names(TEXT, HARMLESS, NEUTRAL_TEXT)
    prompt = fields.required("prompt", str, list)
    one = isinstance(prompt, str) or (prompt and all(type(item) is int for item in prompt))
    prompts = tuple(_prompt(item, fields) for item in ([prompt] if one else prompt))
    if not prompts:
        fields.refuse("prompt", "is an empty array")
    return TextBody(prompts=prompts, **_common(fields, fields.integer("logprobs", 0, MAX_TEXT_LOGPROBS), None))


def _common(fields: Fields, logprobs: int | None, limit: int | None) -> dict[str, Any]:
    options = fields.object("stream_options")
    options.check_names(("include_usage",), ("include_obfuscation",), {})
    stream = fields.flag("stream")
    include_usage = options.flag("include_usage")
    if include_usage and not stream:
        fields.refuse("stream_options", "needs 'stream': true")
    top_p = fields.number("top_p", 0, 1)
    if top_p == 0:
        fields.refuse("top_p", "is 0: it must be above 0; 'temperature': 0 takes the most probable token")
    top_k = fields.integer("top_k", -1, CANDIDATES)
    max_tokens = fields.integer("max_tokens", 1, 2**31 - 1)
    return {
        "model": fields.required("model", str),
        "n": fields.integer("n", 1, MAX_CHOICES) or 1,
        "stop": fields.strings("stop", MAX_STOPS, LONGEST_STOP),
        "seed": fields.integer("seed", -(2**63), 2**63 - 1),
        "max_tokens": max_tokens if limit is None else limit,
        "temperature": fields.number("temperature", 0, 2),
        "top_p": top_p,
        "top_k": top_k if top_k is None else max(top_k, 0),
        "logprobs": logprobs,
        "stream": stream,
        "include_usage": include_usage,
    }


def _message(value: object, where: str) -> Message:
    if not isinstance(value, dict):
        raise ApiError(400, f"'{where}' is {kind(value)}, where an object is expected", param=where)
    fields = Fields(value, f"{where}.")
    fields.check_names(("role", "content"), ("name",), NEUTRAL_MESSAGE)
    role = fields.required("role", str)
    if role not in ROLES:
        fields.refuse("role", f"is {role!r}; supported are {', '.join(ROLES)}")
    content = fields.value("content", str, list)
    text = "".join(map(_text_part, content, [where] * len(content))) if isinstance(content, list) else content or ""
    if role != "assistant" and not text.strip():
        fields.refuse("content", "is empty")
    return Message(ROLES[role], text)


def _text_part(part: object, where: str) -> str:
    if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
        raise ApiError(400, f"'{where}.content' has a part that is not of the type text", param=f"{where}.content")
    return part["text"]


def _prompt(value: object, fields: Fields) -> str | tuple[int, ...]:
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value or not all(type(id) is int for id in value):
        fields.refuse("prompt", "must be a text, an array of token ids, or an array of either, none of them empty")
    return tuple(value)
