"""Reads gin files and overrides as bindings: names and values as written, each with file and line."""

from __future__ import annotations

import ast
import contextlib
import difflib
import io
import tokenize
import types
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mindllm_jax.configuration.schema import hints


class Reference(NamedTuple):
    """A gin reference (`@Class()`) or macro (`%name`) as written in a file."""

    sign: str
    name: str


class Binding(NamedTuple):
    """One `Class.field = value` or `macro = value` with its file and line."""

    owner: str
    field: str  # "" for a macro
    value: Any
    where: str


def _read(source: str, name: str, folder: Path, within: tuple[Path, ...] = ()) -> Iterator[Binding]:
    """Yields the bindings of one gin text, with includes expanded in place.

    folder: where its includes are searched; within: the file itself and those that include it.
    """
    from gin import config_parser

    class Delegate(config_parser.ParserDelegate):
        def configurable_reference(self, scoped_configurable_name: str, evaluate: bool) -> Any:
            return Reference("@" if evaluate else "@@", scoped_configurable_name)

        def macro(self, macro_name: str) -> Any:
            return Reference("%", macro_name)

    class Parser(config_parser.ConfigParser):
        keys: set[Any]

        def _maybe_parse_container(self) -> Any:
            outer, self.keys = getattr(self, "keys", set()), set()
            found = super()._maybe_parse_container()
            self.keys = outer
            return found

        def _parse_dict_item(self) -> Any:
            token = self.current_token
            assert token is not None
            line = token.start[0]
            key, value = super()._parse_dict_item()
            if key in self.keys:
                raise ValueError(f"{name}:{line}: the key {key!r} is written twice; leave one out")
            self.keys.add(key)
            return key, value

    # Not by str.splitlines, which also cuts at characters that end no line of a file.
    lines = enumerate(io.StringIO(source.removeprefix("\ufeff"), newline=None), start=1)
    line = 1

    def readline() -> str:
        nonlocal line
        line, text = next(lines, (line, ""))
        return text

    try:
        for statement in Parser(types.SimpleNamespace(readline=readline), Delegate()):
            where = f"{name}:{statement.location.line_num}" if hasattr(statement, "location") else name
            if isinstance(statement, config_parser.IncludeStatement):
                yield from read_file(Path(statement.filename), folder, f"{where}: include ", within)
            elif isinstance(statement, config_parser.BindingStatement):
                if statement.scope:
                    raise ValueError(f"{where}: {statement.scope}/: settings have no scopes; remove it")
                owner = statement.selector.rpartition(".")[2]
                yield Binding(owner, statement.arg_name or "", statement.value, where)
            elif isinstance(statement, config_parser.ImportStatement):
                raise ValueError(f"{where}: gin files of this project cannot import; remove the line")
    except SyntaxError as error:
        reason, text = str(error.msg).partition("\n")[0], (error.text or "").strip()
        raise ValueError(f"{name}:{error.lineno}: not a gin statement: {reason}: {text:.80}") from None
    except tokenize.TokenError as error:
        reason = f"{error.args[0]}; is a bracket or quote never closed?"
        raise ValueError(f"{name}:{_unclosed(source)}: not a gin statement: {reason}") from None
    except (TypeError, RecursionError) as error:  # an unhashable key, a thousand brackets
        raise ValueError(f"{name}:{line}: not a value: {error}") from None


def _unclosed(source: str) -> int:
    """Returns the line of the first bracket or quote that is not closed."""
    opened = list[int]()
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.OP and token.string in "([{":
                opened.append(token.start[0])
            elif token.type == tokenize.OP and token.string in ")]}" and opened:
                opened.pop()
    except tokenize.TokenError as error:
        return min([*opened, error.args[1][0]])
    return 1


def read_file(path: Path, folder: Path, context: str = "", within: tuple[Path, ...] = ()) -> Iterator[Binding]:
    """Reads a gin file; a relative path is tried from the working directory, then from the folder of the including file
    and the folders above it, so that `include 'configs/model/x.gin'` works from anywhere."""
    candidates = [path, *(parent / path for parent in (folder, *folder.parents))]
    for candidate in candidates:
        if candidate.exists() and not candidate.is_dir():  # a pipe too, as of the shell's <(…)
            resolved = candidate.resolve()
            if resolved in within:
                raise ValueError(f"{context}{path}: the files include each other in a circle")
            try:
                source = candidate.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(f"{candidate}: not UTF-8 text ({error.reason} at byte {error.start})") from None
            yield from _read(source, str(candidate), resolved.parent, (*within, resolved))
            return
    if path.is_dir():
        raise ValueError(f"{context}{path}: a folder; name the gin file in it")
    near = difflib.get_close_matches(str(path), [str(p) for p in path.parent.glob("*.gin")], 1)
    raise ValueError(f"{context}{path}: no such gin file" + (f"; did you mean {near[0]}?" if near else ""))


def read_override(text: str, classes: dict[str, type], macros: Collection[str] = ()) -> Binding:
    """Reads `NAME=VALUE` of the command line; a bare word counts as a string, which saves quotes in a shell.

    The value of a text field is taken as it is, unless the whole of it is quoted or `%` with the name of a macro.
    """
    key, _, raw = text.partition("=")
    where, name = f"--gin.{text}", key.rpartition("/")[2]
    owner, _, field = name.rpartition(".")
    hint = hints(classes[owner]).get(field) if owner in classes else None
    is_text = hint in (str, str | None)
    for spelling in ("None",) if is_text else (raw, repr(raw)):
        try:
            (binding,) = _read(f"{key} = {spelling}\n", where, Path())
        except ValueError:
            if spelling == raw and raw.startswith(("(", "[", "{")) and owner in classes:
                raise
            continue
        value = _text(raw, macros, optional=hint is not str) if is_text else binding.value
        return binding._replace(value=value, where=where)
    raise ValueError(f"--gin.{text}: write --gin.Class.field=VALUE")


def _text(raw: str, macros: Collection[str], *, optional: bool) -> str | Reference | None:
    """Returns the value of a text field: the text itself, or what the whole of it stands for."""
    bare = raw.strip()
    if bare.startswith("%") and bare[1:] in macros:
        return Reference("%", bare[1:])
    if optional and bare == "None":
        return None
    if bare[:1] in ("'", '"') and bare[-1] == bare[0]:
        with contextlib.suppress(SyntaxError, ValueError):  # text that begins and ends with a quote
            node = ast.parse(bare, mode="eval").body
            if isinstance(node, ast.Constant) and ast.get_source_segment(bare, node) == bare:
                return str(node.value)
    return raw
