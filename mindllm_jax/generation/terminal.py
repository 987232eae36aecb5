"""A chat in the terminal: commands, streamed answers and their speed."""

from __future__ import annotations

import contextlib
import dataclasses
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator

from mindllm_jax.checks import suggestion
from mindllm_jax.generation.chat import Session

HINT = "/help lists the commands, /quit (or Ctrl-D) exits, Ctrl-C stops an answer"
HELP = """\
/reset            start a new conversation; the system message stays
/system TEXT      put a system message before the conversation; without a text, none
/temperature X    0 takes the most probable token, above 1 is more random
/regenerate       answer the last question again, with other draws
/help             this list
/quit             exit; so does Ctrl-D"""
COMMANDS = tuple(line.split()[0] for line in HELP.splitlines())
UNDECODABLE = "\ufffd"  # as which stdin reads a byte that its encoding lacks: of Chinese in the locale C all
NOT_TEXT = "the line is not text in this locale's encoding; set LC_ALL=C.UTF-8 or PYTHONUTF8=1"

Write = Callable[[str], None]


def talk(session: Session, lines: Iterable[str], write: Write) -> None:
    """Answers line by line until the lines end, `/quit`, or an interruption between answers.

    An interruption within an answer stops the answer. A line that the model cannot take is answered by its error.
    """
    write(f"{HINT}\n")
    try:
        for line in lines:
            text = line.strip()
            if text == "/quit":
                break
            try:
                if UNDECODABLE in text:
                    raise ValueError(NOT_TEXT)
                if text.startswith("/"):
                    _obey(session, text, write)
                elif text:
                    _answer(session, session.reply(text), write)
            except ValueError as error:
                write(f"[{error}]\n")
    except KeyboardInterrupt:
        write("\n")


def _obey(session: Session, text: str, write: Write) -> None:
    """Runs a command. Raises ValueError for one that cannot be."""
    command, _, argument = text.partition(" ")
    argument = argument.strip()
    if command not in COMMANDS:
        raise ValueError(f"there is no command {command}{suggestion(command, COMMANDS)}; {HINT}")
    if argument and command not in ("/system", "/temperature"):
        raise ValueError(f"{command} takes nothing behind it")
    if command == "/help":
        write(f"{HELP}\n")
    elif command == "/reset":
        session.reset()
        write("a new conversation\n")
    elif command == "/system":
        session.system = argument
        write("the system message is set\n" if argument else "no system message\n")
    elif command == "/temperature":
        session.sampling = dataclasses.replace(session.sampling, temperature=_number(argument))
        write(f"temperature {session.sampling.temperature}\n")
    else:
        _answer(session, session.regenerate(), write)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"/temperature needs a number, as in /temperature 0.7; this is {text!r}") from None


def _answer(session: Session, pieces: Iterator[str], write: Write) -> None:
    """Writes an answer and its speed. The first piece is not timed: compilation and the prompt come before it."""
    before = session.dropped
    answer: list[str] = []
    first = time.monotonic()
    note = ""
    try:
        for piece in pieces:
            if not answer:
                first = time.monotonic()
            answer.append(piece)
            write(piece)
    except KeyboardInterrupt:
        note = " [stopped]"
    seconds = time.monotonic() - first
    tokens = session.count_tokens("".join(answer)) - session.count_tokens("".join(answer[:1]))
    write(f"{note}\n")
    if tokens > 0:
        write(f"[{tokens / seconds:.1f} tokens/s]\n")
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
