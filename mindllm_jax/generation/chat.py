"""Chat with a run: one answer, or a conversation in the terminal, streamed."""

from __future__ import annotations

import contextlib
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from mindllm_jax.batching.chat_format import encode_prompt
from mindllm_jax.batching.chat_template import Message
from mindllm_jax.checks import require_local
from mindllm_jax.generation.engine import stream
from mindllm_jax.generation.sampling import Sampling
from mindllm_jax.training.load_run import LoadedRun

HELP = "/reset starts a new conversation, /quit (or Ctrl-D) exits, Ctrl-C stops an answer"


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
    """A conversation with a model; in the mode `continue`, independent continuations of texts."""

    def __init__(self, run: LoadedRun, config: Chat):
        self.messages: list[Message] = []  # questions and their answers in turn
        self.dropped = 0  # first questions that no longer fit, with their answers
        self._run, self._config = run, config

    def reply(self, text: str) -> Iterator[str]:
        """Yields the answer in pieces and appends both to the conversation, even if it is interrupted.

        Drops the first questions and answers when the conversation exceeds Model.max_seq_len. Raises ValueError when
        the text alone does.
        """
        decoder, _, tokenizer, *_ = self._run
        sampling = self._config.sampling
        if self._config.mode == "continue":
            yield from stream(decoder, tokenizer, text, sampling)
            return
        question = Message("user", text)
        prompt = encode_prompt(tokenizer, [*self.messages, question])
        longest = decoder.config.max_seq_len
        while self.messages and len(prompt) + sampling.new_tokens(longest) > longest:
            del self.messages[:2]
            self.dropped += 1
            prompt = encode_prompt(tokenizer, [*self.messages, question])
        pieces: list[str] = []
        try:
            for piece in stream(decoder, tokenizer, prompt, sampling, stop_ids=tokenizer.ends):
                pieces.append(piece)
                yield piece
        finally:
            if pieces:
                self.messages += [question, Message("assistant", "".join(pieces).strip())]

    def reset(self) -> None:
        """Starts a new conversation."""
        self.messages.clear()
        self.dropped = 0


def talk(session: Session, lines: Iterable[str], write: Callable[[str], None]) -> None:
    """Answers line by line until the lines end, `/quit`, or an interruption between answers.

    An interruption within an answer stops the answer. A line that the model cannot take is answered by its error.
    """
    write(f"{HELP}\n")
    try:
        for line in lines:
            text = line.strip()
            if text == "/quit":
                break
            if text == "/reset":
                session.reset()
                write("a new conversation\n")
            elif text.startswith("/"):
                write(f"{HELP}\n")
            elif text:
                _answer(session, text, write)
    except KeyboardInterrupt:
        write("\n")


def _answer(session: Session, text: str, write: Callable[[str], None]) -> None:
    before = session.dropped
    try:
        for piece in session.reply(text):
            write(piece)
    except KeyboardInterrupt:
        write(" [stopped]")
    except ValueError as error:
        write(f"[{error}]")
    write("\n")
    if session.dropped > before:
        write(f"[the first {session.dropped} turns no longer fit in Model.max_seq_len and were dropped]\n")


def strip_control_chars(text: str) -> str:
    """Replaces control characters by spaces: a model's output may contain escape sequences of the terminal."""
    return "".join(" " if unicodedata.category(c) == "Cc" and c not in "\n\t" else c for c in text)


def read_input(prompt: str) -> Iterator[str]:
    """Yields the lines typed at the prompt, until Ctrl-D."""
    with contextlib.suppress(ImportError):  # not on every platform
        import readline  # noqa: F401  arrow keys and history for input()
    while True:
        try:
            yield input(prompt)
        except EOFError:
            print()
            return
