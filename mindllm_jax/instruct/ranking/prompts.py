"""The prompts of a ranking, of files of conversations."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np

from mindllm_jax.batching.chat_template import Message
from mindllm_jax.files import json_sha256
from mindllm_jax.instruct.conversations import read_conversations
from mindllm_jax.instruct.ranking.settings import RankAnswers
from mindllm_jax.instruct.reading.records import instruction_files


class Prompt(NamedTuple):
    """The messages of a conversation before its last answer, and that answer."""

    id: str
    messages: tuple[Message, ...]
    reference: str

    @property
    def digest(self) -> str:
        """The sha256 of the messages."""
        return json_sha256(self.messages)

    @property
    def text(self) -> str:
        """The messages as one text, with their roles where there are several."""
        if len(self.messages) == 1:
            return self.messages[0].content
        return "\n\n".join(f"{message.role}: {message.content}" for message in self.messages)


def read_prompts(config: RankAnswers, skipped: Counter[str]) -> list[Prompt]:
    """Reads the prompts; of conversations with the same prompt the first counts.

    A second prompt of an id, as of conversations with the same first question, has a hash behind the id. A larger
    `limit` draws the prompts of a smaller one, and others.

    skipped: the malformed records that are skipped are added by reason.

    Raises OSError where a file is missing, ValueError where one is malformed.
    """
    prompts = dict[str, Prompt]()
    for file in instruction_files(config.prompts):
        for conversation in read_conversations(file, on_bad=config.on_bad, skipped=skipped):
            *messages, answer = conversation.messages
            prompt = Prompt(conversation.id, tuple(messages), answer.content)
            if prompts.setdefault(prompt.id, prompt).messages != prompt.messages:
                prompt = prompt._replace(id=f"{prompt.id}-{prompt.digest[:8]}")
                prompts.setdefault(prompt.id, prompt)
    every = list(prompts.values())
    drawn = np.random.default_rng(config.seed).permutation(len(every))[: config.limit]
    return [every[number] for number in sorted(drawn.tolist())]
