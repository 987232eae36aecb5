"""Renders a tokenizer's chat template into symbols and texts, with what the loss is computed on.

transformers renders the template to plain text and matches symbols in it, so a user who writes `<|im_end|>` ends the
message. Here the names of symbols in the template itself, and in the variables that hold them, are replaced by marks
before it is rendered; what a message says is text.

A template is code of the tokenizer's author: the sandbox keeps it from the machine and bounds `range`, but nested loops
may take any time, as in transformers. Nothing limits that.

A mark is half of a surrogate pair, a code point that no text of a message holds.
"""

import contextlib
import datetime
import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import numpy as np
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mindllm_jax.tokenization.mindllm_format import CHAT_TEMPLATE
from mindllm_jax.tokenization.tokenizer import Tokenizer

_BEGIN, _END = "\udffe", "\udfff"  # the marks around what the loss is computed on
_HOLE = "\udffd"  # the place of a content
_FIRST = 0xD800  # the mark of the first symbol
_SYMBOL = re.compile("([\ud800-\udffc])")
_BORDER = re.compile(f"([{_BEGIN}{_END}])")
_FAILURES = (jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError,
             ValueError)  # fmt: skip
"""What other people's template raises, when it is compiled or rendered."""
_GENERATION = re.compile(r"\{%[-+]?\s*generation\b")


class Message(NamedTuple):
    """A message of a conversation.

    Attributes:
        role: `user` or `assistant`; `system` and others where the chat template has them.
        content: the text.
    """

    role: str
    content: str


class Part(NamedTuple):
    """A symbol, or the text between two.

    Attributes:
        symbol: int32 [1], the id; None for a text.
        text: the text; empty for a symbol.
        spans: begin and end of what counts in the loss, in characters of the text; None is its end.
    """

    symbol: np.ndarray | None
    text: str
    spans: tuple[tuple[int, int | None], ...]


class ChatTemplate:
    """The chat template of a tokenizer, compiled.

    Raises ValueError when the template is not Jinja, or makes a symbol of parts, which marks cannot show.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        source, self._path = tokenizer.chat_template, tokenizer.path
        variables = tokenizer.special_tokens
        written = [name for name in tokenizer.symbols if name in source or name in variables.values()]
        marks = {name: chr(_FIRST + n) for n, name in enumerate(written)}
        self._symbols = {mark: np.array([tokenizer.symbols[name]], np.int32) for name, mark in marks.items()}
        self._ends = [marks[name] for name in written if tokenizer.symbols[name] in tokenizer.ends]
        self._variables = {name: marks[piece] for name, piece in variables.items()}
        self._is_marked = _GENERATION.search(source) is not None
        self._is_mindllm = source == CHAT_TEMPLATE
        self._taken_apart: dict[tuple[str, ...], list[Part]] = {}
        self._template = self._compiled(_replaced(source, marks))
        self._check(tokenizer, marks)

    def conversation(self, messages: Sequence[Message]) -> list[Part]:
        """Returns the parts of a conversation; what the assistant says counts in the loss.

        Without `{% generation %}` in the template, that is all from the prompt for an answer up to its end.

        Raises ValueError when the template refuses the messages.
        """
        _check_texts(messages)
        if self._is_mindllm:
            return self._filled(messages)
        text = self._render(self._template, messages)
        return list(self._parts(text if self._is_marked else self._with_marks(text, messages)))

    def prompt(self, messages: Sequence[Message]) -> list[Part]:
        """Returns the parts of the prompt for an answer to some messages.

        Raises ValueError when the template refuses the messages.
        """
        _check_texts(messages)
        return list(self._parts(self._prompt(messages)))

    def _prompt(self, messages: Sequence[Message]) -> str:
        text = self._render(self._template, messages, add_generation_prompt=True)
        return text.replace(_BEGIN, "").replace(_END, "")

    def _filled(self, messages: Sequence[Message]) -> list[Part]:
        """Fills contents into MindLLM's template, which is rendered and taken apart once per sequence of roles.

        It reads contents through `trim` alone, and every span goes from before a content to the end of the text.
        """
        roles = tuple([message.role for message in messages])
        parts = self._taken_apart.get(roles)
        if parts is None:
            text = self._render(self._template, [Message(role, _HOLE) for role in roles])
            parts = self._taken_apart[roles] = list(self._parts(text))
        contents = iter([message.content.strip() for message in messages])
        return [_filled(part, contents) if _HOLE in part.text else part for part in parts]

    def _parts(self, marked: str) -> Iterator[Part]:
        """Yields the parts of a rendered text."""
        inside = False
        for number, piece in enumerate(_SYMBOL.split(marked)):
            if number % 2:
                yield Part(self._symbols[piece], "", ((0, None),) if inside else ())
                continue
            first, *rest = _BORDER.split(piece)
            text, spans = "".join([first, *rest[1::2]]), []
            begin, place = 0, len(first)
            for border, following in zip(rest[::2], rest[1::2], strict=True):
                if inside and begin < place:
                    spans.append((begin, place))
                inside, begin, place = border == _BEGIN, place, place + len(following)
            if inside and begin < place:
                spans.append((begin, None))
            if text:
                yield Part(None, text, tuple(spans))

    def _render(
        self, template: jinja2.Template, messages: Sequence[Message], *, add_generation_prompt: bool = False
    ) -> str:
        try:
            return template.render(
                messages=[message._asdict() for message in messages],
                tools=None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self._variables,
            )
        except _FAILURES as error:
            reason = str(error) or type(error).__name__
            raise ValueError(f"the chat template of {self._path} refuses the conversation: {reason}") from None

    def _with_marks(self, text: str, messages: Sequence[Message]) -> str:
        parts, done = [], 0
        for number, message in enumerate(messages):
            if message.role != "assistant":
                continue
            prompt = self._prompt(messages[:number])
            ends = [place for mark in self._ends if (place := text.find(mark, len(prompt))) >= 0]
            if not text.startswith(prompt) or not ends:
                raise ValueError(
                    f"the chat template of {self._path} does not show what the assistant says in message {number + 1}:"
                    " put {% generation %} and {% endgeneration %} around it, the end of the answer included"
                )
            parts += [text[done : len(prompt)], _BEGIN, text[len(prompt) : min(ends) + 1], _END]
            done = min(ends) + 1
        return "".join([*parts, text[done:]])

    def _compiled(self, source: str) -> jinja2.Template:
        try:
            return _environment().from_string(source)
        except _FAILURES as error:
            reason = str(error) or type(error).__name__
            raise ValueError(f"the chat template of {self._path} is not Jinja: {reason}") from None

    def _check(self, tokenizer: Tokenizer, marks: dict[str, str]) -> None:
        """Compares the marks with the symbols in the text that the unmarked template gives."""
        probe = [Message("user", "a"), Message("assistant", "b"), Message("user", "c")]
        variables, plain = self._variables, self._compiled(tokenizer.chat_template)
        try:
            marked = self._render(self._template, probe)
            self._variables = tokenizer.special_tokens
            text = self._render(plain, probe)
        except ValueError:  # a template of other roles
            return
        finally:
            self._variables = variables
        if _replaced(text, {name: marks.get(name, name) for name in tokenizer.symbols}) != marked:
            raise ValueError(
                f"the chat template of {self._path} makes a special token of parts; write each in one string"
            )


@lru_cache(maxsize=4)
def chat_template(tokenizer: Tokenizer) -> ChatTemplate:
    """Returns the compiled chat template of a tokenizer. Raises ValueError as `ChatTemplate` does."""
    return ChatTemplate(tokenizer)


def _replaced(text: str, marks: dict[str, str]) -> str:
    names = sorted(marks, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, names)), lambda match: marks[match.group()], text) if names else text


def _filled(part: Part, contents: Iterator[str]) -> Part:
    """Returns the part with the next contents in its holes."""
    first, *others = part.text.split(_HOLE)
    new = [next(contents) for _ in others]
    text = first + "".join([content + other for content, other in zip(new, others, strict=True)])
    spans = []
    for begin, end in part.spans:
        before = new[: part.text.count(_HOLE, 0, begin)]
        spans.append((begin + sum(map(len, before)) - len(before), end))
    return Part(None, text, tuple(spans))


def _check_texts(messages: Sequence[Message]) -> None:
    with contextlib.suppress(UnicodeEncodeError):
        "".join([text for message in messages for text in message]).encode()
        return
    for number, message in enumerate(messages, start=1):
        for name, text in zip(message._fields, message, strict=True):
            try:
                text.encode()
            except UnicodeEncodeError as error:
                where = f"(U+{ord(text[error.start]):04X}) at character {error.start}"
                raise ValueError(f"message {number}: {name} has a lone surrogate {where}") from None


class _Generation(jinja2.ext.Extension):
    """`{% generation %}…{% endgeneration %}`, which transformers' templates have around what the assistant says."""

    tags = {"generation"}  # noqa: RUF012  as the base class has it

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

    def _marked(self, caller: Callable[[], str]) -> str:
        return _BEGIN + caller() + _END


@lru_cache(maxsize=1)
def _environment() -> ImmutableSandboxedEnvironment:
    """Returns the environment in which transformers renders templates; templates are other people's code."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda format: datetime.datetime.now().strftime(format)
    return environment


def _to_json(value: Any, ensure_ascii: bool = False, **settings: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, **settings)


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)
