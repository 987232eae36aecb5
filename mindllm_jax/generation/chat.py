"""Talking to a run: one answer, or a terminal chat that streams."""

from __future__ import annotations

import contextlib
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from mindllm_jax.batching.chat_format import Turn, encode_prompt
from mindllm_jax.checks import require_local
from mindllm_jax.generation.engine import stream
from mindllm_jax.generation.sampling import Sampling
from mindllm_jax.training.load_run import LoadedRun

HELP = "/reset forgets the conversation, /quit (or Ctrl-D) leaves, Ctrl-C stops an answer"


@dataclass(frozen=True)
class Chat:
    """Whom to talk to, and how."""

    run: str  # folder of a tuned run, or of a pre-trained one to continue texts with
    mode: Literal["chat", "continue"] = "chat"  # answer questions in the chat format, or continue a document
    prompt: str | None = None  # answer this and stop; None: a chat in the terminal
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        require_local(self, "run")


class Session:
    """A conversation with a model, or, in the mode `continue`, texts that it continues one by one."""

    def __init__(self, run: LoadedRun, config: Chat):
        self.turns: list[Turn] = []
        self.forgotten = 0  # turns from the beginning that no longer fit
        self._run, self._config = run, config

    def reply(self, text: str) -> Iterator[str]:
        """Yields the answer in pieces and remembers the turn, also one of which not all pieces were taken.

        The first turns are forgotten when the conversation outgrows Model.max_seq_len. Raises ValueError when the text
        alone does.
        """
        decoder, _, tokenizer, *_ = self._run
        sampling = self._config.sampling
        if self._config.mode == "continue":
            yield from stream(decoder, tokenizer, text, sampling)
            return
        prompt = encode_prompt(tokenizer, self.turns, text)
        while self.turns and len(prompt) + sampling.max_tokens > decoder.config.max_seq_len:
            del self.turns[0]
            self.forgotten += 1
            prompt = encode_prompt(tokenizer, self.turns, text)
        pieces: list[str] = []
        try:
            for piece in stream(decoder, tokenizer, prompt, sampling, stop_ids=(tokenizer.doc_id, tokenizer.user_id)):
                pieces.append(piece)
                yield piece
        finally:
            if pieces:
                self.turns.append(Turn(text, "".join(pieces).strip()))

    def reset(self) -> None:
        """Begins a new conversation."""
        self.turns.clear()
        self.forgotten = 0


def talk(session: Session, lines: Iterable[str], write: Callable[[str], None]) -> None:
    """Answers line by line until the lines end, `/quit`, or an interruption while it waits for one.

    An interruption while it answers ends the answer; what a model cannot be asked is told, and the chat goes on.
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
    before = session.forgotten
    try:
        for piece in session.reply(text):
            write(piece)
    except KeyboardInterrupt:
        write(" [stopped]")
    except ValueError as error:
        write(f"[{error}]")
    write("\n")
    if session.forgotten > before:
        write(f"[the first {session.forgotten} turns no longer fit in Model.max_seq_len and are forgotten]\n")


def strip_control_chars(text: str) -> str:
    """The text without what a terminal would obey: a model may say any byte, escape sequences included."""
    return "".join(" " if unicodedata.category(c) == "Cc" and c not in "\n\t" else c for c in text)


def read_input(prompt: str) -> Iterator[str]:
    """What is typed, line by line, until Ctrl-D."""
    with contextlib.suppress(ImportError):  # not everywhere
        import readline  # noqa: F401  arrow keys and history for input()
    while True:
        try:
            yield input(prompt)
        except EOFError:
            print()
            return
