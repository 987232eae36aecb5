"""The prompts of a ranking, of files of conversations."""

from __future__ import annotations

from typing import NamedTuple

from mindllm_jax.batching.chat_template import Message
from mindllm_jax.instruct.conversations import read_conversations
from mindllm_jax.instruct.ranking.settings import RankAnswers
from mindllm_jax.instruct.reading.records import instruction_files


class Prompt(NamedTuple):
    """The messages of a conversation before its last answer, and that answer."""

    id: str
    messages: tuple[Message, ...]
    reference: str

    @property
    def text(self) -> str:
        """The messages as one text, with their roles where there are several."""
        if len(self.messages) == 1:
            return self.messages[0].content
        return "\n\n".join(f"{message.role}: {message.content}" for message in self.messages)


def read_prompts(config: RankAnswers) -> list[Prompt]:
    """Reads the prompts; of conversations with the same prompt the first counts.

    Raises OSError where a file is missing, ValueError where one is malformed, or two prompts have the same id.
    """
    prompts, places = dict[str, Prompt](), dict[str, str]()
    for file in instruction_files(config.prompts):
        for conversation in read_conversations(file):
            *messages, answer = conversation.messages
            prompt = Prompt(conversation.id, tuple(messages), answer.content)
            other = prompts.setdefault(prompt.id, prompt)
            place = places.setdefault(prompt.id, conversation.where)
            if other.messages != prompt.messages:
                raise ValueError(
                    f"{conversation.where}: the id {prompt.id!r} is that of another prompt ({place}): give each its own"
                )
            if len(prompts) == config.limit:
                return list(prompts.values())
    return list(prompts.values())
