"""Records that are lists of messages: `messages`, ShareGPT, MOSS, TRL's lists, and pairs of a history."""

from __future__ import annotations

import re
from typing import Any

from mindllm_jax.batching.chat_template import Message
from mindllm_jax.instruct.reading.fields import SPEAKERS, in_turn, is_absent, text_of
from mindllm_jax.text.json_lines import BadLine

_ROLES = {
    **dict.fromkeys(("human", "prompter"), "user"),
    **dict.fromkeys(("gpt", "chatgpt", "bing", "bard", "model", "bot"), "assistant"),
}
_TOOLS = frozenset(("tool", "function", "function_call", "tool_call", "tool_response", "observation", "ipython"))
_TOOL_FIELDS = ("tool_calls", "function_call")
_MOSS_MARKS = re.compile(r"^<\|\w+\|>:?|<eo\w>\s*$")
_LAWYER_MARKS = ("[客户]", "[律师]")


def from_messages(messages: Any, name: str) -> list[Message]:
    """Returns the messages of a list of objects of `role` and `content`, or of `from` and `value`.

    Raises BadLine that names the message for tool turns, roles out of order, and where no answer is last.
    """
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise BadLine(
            "messages not a list", f"`{name}` must be a list of objects of `role` and `content`, or `from` and `value`"
        )
    texts: list[str] = []
    system = None
    for index, message in enumerate(messages):
        speaker = next((field for field in SPEAKERS if field in message), "role")
        place, role, content = f"{name}[{index}]", str(message.get(speaker)), message.get(SPEAKERS[speaker])
        called = next((field for field in _TOOL_FIELDS if not is_absent(message.get(field) or None)), None)
        if role in _TOOLS or called:
            raise BadLine(
                "tool turn", f"`{place}.{called or speaker}`: a turn of a tool ({called or role}); the chat has none"
            )
        role = _ROLES.get(role, role)
        if role == "system" and index == 0:
            system = None if is_absent(content) else text_of(content, f"{place}.{SPEAKERS[speaker]}")
            continue
        wanted = ("user", "assistant")[len(texts) % 2]
        if role != wanted:
            raise BadLine(
                "roles out of order",
                f"`{place}.{speaker}` is {message.get(speaker)!r} where {wanted!r} was expected: user and assistant"
                " take turns, after one 'system' at most",
            )
        texts.append(text_of(content, f"{place}.{SPEAKERS[speaker]}"))
    if len(texts) < 2:
        raise BadLine("no assistant", f"`{name}` has no turn of the role 'assistant'")
    if len(texts) % 2:
        raise BadLine("no answer", f"the last of `{name}` is a question without an answer")
    return [*([] if system is None else [Message("system", system)]), *in_turn(*texts)]


def from_prompt_and_completion(row: dict[str, Any]) -> list[Message]:
    """Returns the messages of TRL's `prompt` and `completion`, both lists of messages."""
    prompt, completion = row["prompt"], row["completion"]
    for name, value in (("prompt", prompt), ("completion", completion)):
        if not isinstance(value, list):
            raise BadLine("messages not a list", f"`{name}` is a {type(value).__name__}, and the other one a list")
    return from_messages([*prompt, *completion], "prompt + completion")


def from_moss(chat: Any) -> list[Message]:
    """Returns the messages of MOSS's `chat`, without its inner thoughts; a turn that calls a tool raises BadLine."""
    names = [f"turn_{number + 1}" for number in range(len(chat))] if isinstance(chat, dict) else []
    if not names or not all(isinstance(chat.get(name), dict) for name in names):
        raise BadLine("chat without turns", "`chat` must be an object of objects `turn_1`, `turn_2`, …")

    def unmarked(text: Any) -> Any:
        return _MOSS_MARKS.sub("", text).strip() if isinstance(text, str) else text

    def utterance(name: str, who: str) -> str:
        return text_of(unmarked(chat[name].get(who)), f"chat.{name}.{who}")

    for name in names:
        command = unmarked(chat[name].get("Commands"))
        if not is_absent(command) and command != "None":
            raise BadLine("tool turn", f"`chat.{name}.Commands` calls a tool ({str(command)[:40]}); the chat has none")
    return in_turn(*(utterance(name, who) for name in names for who in ("Human", "MOSS")))


def from_history(history: Any) -> list[Message]:
    """Returns the messages of a `history` of pairs of question and answer."""
    if history in (None, "", []):
        return []
    if not isinstance(history, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in history):
        raise BadLine("history not pairs", "`history` must be a list of pairs of question and answer")
    return in_turn(*(text_of(pair[side], f"history[{i}][{side}]") for i, pair in enumerate(history) for side in (0, 1)))


def is_consultation(history: Any) -> bool:
    """Whether a `history` is that of lawyer-llama: texts that begin with the client's or the lawyer's mark."""
    return isinstance(history, list) and bool(history) and all(str(text).startswith(_LAWYER_MARKS) for text in history)


def from_consultation(history: list[Any]) -> list[Message]:
    """Returns the messages of lawyer-llama's `history`, `[客户] …` and `[律师] …` in turn."""
    messages = []
    for index, text in enumerate(history):
        mark, role = _LAWYER_MARKS[index % 2], ("user", "assistant")[index % 2]
        if not text.startswith(mark):
            raise BadLine(
                "roles out of order", f"`history[{index}]` begins with {text[:4]!r} where {mark} was expected"
            )
        messages.append(Message(role, text_of(text.removeprefix(mark), f"history[{index}]")))
    if len(messages) % 2:
        raise BadLine("no answer", "the last of `history` is a question without an answer")
    return messages
