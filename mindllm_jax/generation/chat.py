"""Chat with a run: a conversation whose answers are streamed, or independent continuations of texts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal

from mindllm_jax.batching.chat_format import encode_prompt
from mindllm_jax.batching.chat_template import Message
from mindllm_jax.checks import MAX_SEED, require_local
from mindllm_jax.generation.engine import Prompt, stream
from mindllm_jax.generation.sampling import Sampling
from mindllm_jax.training.load_run import LoadedRun


@dataclass(frozen=True)
class Chat:
    """The run to chat with, and the mode."""

    run: str  # folder of a tuned run, or of a pre-trained one to continue texts
    mode: Literal["chat", "continue"] = "chat"  # answer questions in the chat format, or continue a document
    prompt: str | None = None  # answer this and exit; None: chat in the terminal
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        require_local(self, "run")


class Session:
    """A conversation with a model; in the mode `continue`, independent continuations of texts.

    Attributes:
        messages: questions and their answers in turn.
        system: the system message in front of them; empty: none.
        sampling: the settings of the next answer.
        dropped: first questions that no longer fit, with their answers.
    """

    def __init__(self, run: LoadedRun, config: Chat):
        self.messages: list[Message] = []
        self.system = ""
        self.sampling = config.sampling
        self.dropped = 0
        self._run, self._mode = run, config.mode
        self._question: str | None = None  # the last one
        self._before = 0  # messages before it
        self._attempt = 0  # earlier answers to it

    def reply(self, text: str) -> Iterator[str]:
        """Yields the answer in pieces and appends both to the conversation, even if it is interrupted.

        Drops the first questions and answers when the conversation exceeds Model.max_seq_len. Raises ValueError when
        the text alone does.
        """
        yield from self._answer(self.messages, text, attempt=0)

    def regenerate(self) -> Iterator[str]:
        """Yields another answer to the last question, with other draws, in place of the one it had.

        Raises ValueError when there is no question yet.
        """
        if self._question is None:
            raise ValueError("there is no question to answer again")
        yield from self._answer(self.messages[: self._before], self._question, self._attempt + 1)

    def reset(self) -> None:
        """Starts a new conversation; the system message stays."""
        self.messages.clear()
        self.dropped, self._question = 0, None

    def count_tokens(self, answer: str) -> int:
        """Returns the tokens of an answer's text."""
        return len(self._run.tokenizer.encode(answer))

    def _answer(self, history: Sequence[Message], text: str, attempt: int) -> Iterator[str]:
        decoder, _, tokenizer, *_ = self._run
        sampling = dataclasses.replace(self.sampling, seed=(self.sampling.seed + attempt) % (MAX_SEED + 1))
        chatting = self._mode == "chat"
        question = Message("user", text)
        prompt, dropped = self._prompt(history, question) if chatting else (text, 0)
        answer = stream(decoder, tokenizer, prompt, sampling, stop_ids=tokenizer.ends if chatting else None)
        first = next(answer, "")  # raises for a prompt that does not fit, before anything is changed
        self.messages = list(history[2 * dropped :])
        self.dropped += dropped
        self._question, self._before, self._attempt = text, len(self.messages), attempt
        pieces: list[str] = []
        try:
            for piece in chain([first] if first else [], answer):
                pieces.append(piece)
                yield piece
        finally:
            if pieces and chatting:
                self.messages += [question, Message("assistant", "".join(pieces).strip())]

    def _prompt(self, history: Sequence[Message], question: Message) -> tuple[Prompt, int]:
        """Returns the prompt for an answer, and how many of the first turns were dropped for it to fit."""
        decoder, _, tokenizer, *_ = self._run
        system = [Message("system", self.system)] if self.system else []
        longest = decoder.config.max_seq_len
        prompt, dropped = encode_prompt(tokenizer, [*system, *history, question]), 0
        while 2 * dropped < len(history) and len(prompt) + self.sampling.new_tokens(longest) > longest:
            dropped += 1
            prompt = encode_prompt(tokenizer, [*system, *history[2 * dropped :], question])
        return prompt, dropped
