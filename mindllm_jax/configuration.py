"""Command line and gin files for every entry point; the only place that knows gin.

An entry point hands over its root dataclass. Every dataclass in the tree of its type hints becomes configurable by its
class name (`Optimizer.peak_learning_rate = 3e-4`), every dataclass-typed field is bound to its class, so that no nested
value can be ignored, and what was written is held against the type hints before anything is built. One file may serve
several entry points: a binding that belongs to another entry point's dataclass is accepted and listed as not used here.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import importlib
import importlib.util
import io
import math
import sys
import tokenize
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from mindllm_jax.checks import local_path
from mindllm_jax.process import run as run

ROOTS = (
    "mindllm_jax.data.tokenizer_training:TrainTokenizer",
    "mindllm_jax.data.prepare:PrepareData",
    "mindllm_jax.training.pretrain:Pretrain",
    "mindllm_jax.planning.planner:Planner",
    "mindllm_jax.instruct.tune:Tune",
    "mindllm_jax.evaluation.evaluate:Evaluate",
    "mindllm_jax.generation.chat:Chat",
    "mindllm_jax.corpus.demo:DemoCorpus",
    "mindllm_jax.interop.convert:Convert",
    "mindllm_jax.recipes.hardware_steps:HardwareCheck",
)
"""Root dataclasses of the entry points, imported only to judge a name that the present root does not know."""

SCOPES = ("train", "held_out", "base", "judge")
"""Scopes that a dataclass-typed field may name in its metadata, as `field(metadata={"scope": "held_out"})`."""

T = TypeVar("T")


class Arguments(NamedTuple):
    """What every entry point takes from the command line."""

    files: tuple[Path, ...]
    overrides: tuple[str, ...]
    workdir: Path | None
    dry_run: bool
    print_config: bool
    accept_changes: bool


class Reference(NamedTuple):
    """A gin reference (`@scope/Class()`) or macro (`%name`) as written in a file."""

    sign: str
    name: str


class Binding(NamedTuple):
    """One `scope/Class.field = value` or `macro = value`, with where it was written."""

    scope: str
    owner: str
    field: str
    value: Any
    where: str


# ---------------------------------------------------------------------------------------------------- command line


def command_line(description: str | None, argv: list[str] | None = None) -> Arguments:
    """Parses the flags that all entry points share; exits with status 2 and one message on a flag it does not know.

    Raises ValueError for a word that is no text in this locale, and a path that is none of this machine's.
    """
    words = sys.argv[1:] if argv is None else argv
    for word in words:
        if any("\ud800" <= character <= "\udfff" for character in word):
            raise ValueError(f"{word!a}: not text in this locale's encoding; set LC_ALL=C.UTF-8 or PYTHONUTF8=1")
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="any setting can be given as --gin.NAME=VALUE; --print_config lists them all with where each was set",
        allow_abbrev=False,
    )
    parser.add_argument("--gin", action="append", default=[], metavar="FILE", help="gin file; later files win")
    parser.add_argument("--workdir", metavar="DIR", help="folder of the run: state, metrics, report")
    parser.add_argument("--dry_run", action="store_true", help="build on abstract shapes, print the cost and stop")
    parser.add_argument(
        "--print_config", action="store_true", help="print every setting and where it was set, and stop"
    )
    parser.add_argument("--accept_changes", action="store_true", help="go on in a workdir made with other settings")
    known, rest = parser.parse_known_args(words)
    for item in rest:
        if not (item.startswith("--gin.") and "=" in item):
            hint = " (write --gin.NAME=VALUE)" if item.startswith("--gin.") else ""
            parser.error(f"unknown argument {item!r}{hint}")
    overrides = tuple(item.removeprefix("--gin.") for item in rest)
    files = tuple(local_path("--gin", file) for file in known.gin)
    workdir = None if known.workdir is None else local_path("--workdir", known.workdir)
    if workdir is not None and workdir.exists() and not workdir.is_dir():
        raise ValueError(f"--workdir {workdir} is a file; give a folder")
    return Arguments(files, overrides, workdir, known.dry_run, known.print_config, known.accept_changes)


# ------------------------------------------------------------------------------------------- dataclasses by type hint


def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _nested(cls: type, scope: str = "") -> Iterator[tuple[type, str, str, str]]:
    """Yields (owner, owner's scope, field, scope of the field's value) for every dataclass-typed field of the tree."""
    hints = _hints(cls)
    for field in dataclasses.fields(cls):
        inner = hints[field.name]
        if not (isinstance(inner, type) and dataclasses.is_dataclass(inner)):
            continue
        if field.default_factory not in (dataclasses.MISSING, inner):
            raise TypeError(f"{cls.__name__}.{field.name}: a nested dataclass takes its defaults from its own class")
        inner_scope = field.metadata.get("scope", scope)
        yield cls, scope, field.name, inner_scope
        yield from _nested(inner, inner_scope)


def _classes(root: type) -> dict[str, type]:
    """Every dataclass of the tree by class name."""
    found = {root.__name__: root}
    for owner, _, name, _ in _nested(root):
        inner = _hints(owner)[name]
        if found.setdefault(inner.__name__, inner) is not inner:
            raise TypeError(f"two dataclasses of one configuration are named {inner.__name__}")
    return found


def _coerce(value: Any, hint: Any, where: str) -> Any:
    """Returns `value` as `hint` wants it (int for float, 1e6 for int, list for tuple) or raises ValueError.

    A number is finite and, as an integer, one of 64 bits, whatever the setting.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} = {value}: must be a finite number")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"{where}: must be an integer of 64 bits")
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        for option in inner:
            try:
                return _coerce(value, option, where)
            except ValueError:
                continue
    elif origin is Literal:
        if value in inner:
            return value
        choices = ", ".join(map(repr, inner))
        raise ValueError(f"{where} = {value!r}: must be one of {choices}{_suggestion(str(value), map(str, inner))}")
    elif origin is tuple and isinstance(value, list | tuple):
        if inner[-1:] == (Ellipsis,):
            return tuple(_coerce(item, inner[0], where) for item in value)
        if len(value) == len(inner):
            return tuple(_coerce(item, kind, where) for item, kind in zip(value, inner, strict=True))
    elif origin is dict and isinstance(value, dict):
        return {_coerce(k, inner[0], where): _coerce(v, inner[1], f"{where}[{k!r}]") for k, v in value.items()}
    elif dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, dict):
        return restore(hint, value, where)
    elif typing.is_typeddict(hint) and isinstance(value, dict):
        return _coerce_keys(value, hint, where)
    elif hint in (None, type(None)) and value is None:
        return None
    elif hint is bool or isinstance(value, bool):
        if hint is bool and isinstance(value, bool):
            return value
    elif hint is float and isinstance(value, int | float):
        return float(value)
    elif hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    elif isinstance(hint, type) and isinstance(value, hint):
        return value
    wanted = hint.__name__ if isinstance(hint, type) else str(hint)
    raise ValueError(f"{where} = {value!r}: must be {wanted}, not {type(value).__name__}")


def _coerce_keys(value: dict[Any, Any], hint: Any, where: str) -> dict[str, Any]:
    """The same for a dict whose keys a TypedDict names."""
    hints = _hints(hint)
    for key in value:
        if key not in hints:
            known = ", ".join(map(repr, hints))
            raise ValueError(f"{where} has no key {key!r}{_suggestion(str(key), hints) or f'; it has {known}'}")
    for key, kind in typing.get_type_hints(hint, include_extras=True).items():
        if key not in value and typing.get_origin(kind) is not typing.NotRequired:
            raise ValueError(f"{where} = {value!r}: the key {key!r} is missing")
    return {key: _coerce(item, hints[key], f"{where}[{key!r}]") for key, item in value.items()}


def restore(cls: type[T], values: dict[str, Any], where: str = "config.json") -> T:
    """Builds `cls` from what `json.load` gave for it (config.json of a run); ValueError names a wrong field."""
    hints = _hints(cls)
    if not isinstance(values, dict):
        raise ValueError(f"{where}: must be the fields of {cls.__name__}, not {type(values).__name__}")
    unknown = set(values) - set(hints)
    if unknown:
        raise ValueError(f"{where}: {cls.__name__} has no field {sorted(unknown)}; it was written by another version")
    for field in dataclasses.fields(cls):  # pyright: ignore[reportArgumentType]
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and field.name not in values:
            raise ValueError(f"{where}: {cls.__name__}.{field.name} is missing")
    built = {}
    for name, value in values.items():
        hint = hints[name]
        nested = isinstance(hint, type) and dataclasses.is_dataclass(hint)
        built[name] = restore(hint, value, where) if nested else _coerce(value, hint, f"{where}: {cls.__name__}.{name}")
    return cls(**built)


# ------------------------------------------------------------------------------------------------- reading gin files


def _read(source: str, name: str, folder: Path, within: tuple[Path, ...] = ()) -> Iterator[Binding]:
    """Walks the statements of one gin text, includes expanded in place, without applying anything.

    folder: where its includes are looked for; within: the file itself and those that include it.
    """
    from gin import config_parser

    class Delegate(config_parser.ParserDelegate):
        def configurable_reference(self, scoped_configurable_name: str, evaluate: bool) -> Any:
            return Reference("@" if evaluate else "@@", scoped_configurable_name)

        def macro(self, macro_name: str) -> Any:
            return Reference("%", macro_name)

    lines = enumerate(source.removeprefix("\ufeff").splitlines(keepends=True), start=1)
    line = 1

    def readline() -> str:
        nonlocal line
        line, text = next(lines, (line, ""))
        return text

    try:
        for statement in config_parser.ConfigParser(types.SimpleNamespace(readline=readline), Delegate()):
            where = f"{name}:{statement.location.line_num}" if hasattr(statement, "location") else name
            if isinstance(statement, config_parser.IncludeStatement):
                yield from _read_file(Path(statement.filename), folder, f"{where}: include ", within)
            elif isinstance(statement, config_parser.BindingStatement):
                owner = statement.selector.rpartition(".")[2]
                yield Binding(statement.scope, owner, statement.arg_name or "", statement.value, where)
            elif isinstance(statement, config_parser.ImportStatement):
                raise ValueError(f"{where}: a gin file of this project imports nothing; remove the line")
    except SyntaxError as error:
        reason, text = str(error.msg).partition("\n")[0], (error.text or "").strip()
        raise ValueError(f"{name}:{error.lineno}: not a gin statement: {reason}: {text:.80}") from None
    except tokenize.TokenError as error:
        reason = f"{error.args[0]}; is a bracket or quote never closed?"
        raise ValueError(f"{name}:{_unclosed(source)}: not a gin statement: {reason}") from None
    except (TypeError, RecursionError) as error:  # an unhashable key, a thousand brackets
        raise ValueError(f"{name}:{line}: not a value: {error}") from None


def _unclosed(source: str) -> int:
    """The line of the first bracket or quote that nothing closes."""
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


def _read_file(path: Path, folder: Path, context: str = "", within: tuple[Path, ...] = ()) -> Iterator[Binding]:
    """Reads a gin file; a relative path is tried from the working directory, then from the folder of the including file
    and the folders above it, so that `include 'configs/model/x.gin'` works from anywhere."""
    candidates = [path, *(parent / path for parent in (folder, *folder.parents))]
    for candidate in candidates:
        if candidate.is_file():
            here = candidate.resolve()
            if here in within:
                raise ValueError(f"{context}{path}: the files include each other in a circle")
            try:
                source = candidate.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(f"{candidate}: not UTF-8 text ({error.reason} at byte {error.start})") from None
            yield from _read(source, str(candidate), here.parent, (*within, here))
            return
    if path.is_dir():
        raise ValueError(f"{context}{path}: a folder; name the gin file in it")
    near = difflib.get_close_matches(str(path), [str(p) for p in path.parent.glob("*.gin")], 1)
    raise ValueError(f"{context}{path}: no such gin file" + (f"; did you mean {near[0]}?" if near else ""))


def _read_override(text: str, classes: dict[str, type]) -> Binding:
    """Reads `NAME=VALUE` of the command line; a bare word counts as a string, so that shells need no second quotes."""
    key, _, raw = text.partition("=")
    where, name = f"--gin.{text}", key.rpartition("/")[2]
    owner, _, field = name.rpartition(".")
    hints = _hints(classes[owner]) if owner in classes else {}
    for spelling in (raw, repr(raw)):
        try:
            (binding,) = _read(f"{key} = {spelling}\n", where, Path())
        except ValueError:
            continue
        if isinstance(binding.value, str | Reference) or hints.get(field) is not str:
            return binding._replace(where=where)
    raise ValueError(f"--gin.{text}: write --gin.Class.field=VALUE")


# --------------------------------------------------------------------------------------------------- judging and using


def _suggestion(name: str, names: typing.Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(names), 1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def _known_roots() -> list[type]:
    entries = (entry.partition(":") for entry in ROOTS)
    return [getattr(importlib.import_module(module), name) for module, _, name in entries]


def _resolve(value: Any, macros: dict[str, Any], used: set[str], where: str, depth: int = 0) -> Any:
    """Replaces macros inside `value` by what they stand for."""
    if depth > 20:
        raise ValueError(f"{where}: macros refer to each other in a circle")
    if isinstance(value, Reference):
        if value.sign != "%":
            raise ValueError(f"{where}: {value.sign}{value.name}: nested dataclasses bind themselves; set their fields")
        if value.name not in macros:
            raise ValueError(f"{where}: unknown macro %{value.name}{_suggestion(value.name, macros)}")
        used.add(value.name)
        return _resolve(macros[value.name], macros, used, where, depth + 1)
    if isinstance(value, list | tuple):
        return type(value)(_resolve(item, macros, used, where, depth) for item in value)
    if isinstance(value, dict):
        return {k: _resolve(v, macros, used, where, depth) for k, v in value.items()}
    return value


def _is_own_link(binding: Binding, root: type) -> bool:
    """True for `Owner.field = @scope/Class()` as an operative config writes it: what `load` binds anyway."""
    if not isinstance(binding.value, Reference) or binding.value.sign != "@":
        return False
    links = {(scope, owner.__name__, name): (inner, _hints(owner)[name]) for owner, scope, name, inner in _nested(root)}
    inner_scope, inner = links.get((binding.scope, binding.owner, binding.field), ("", None))
    return inner is not None and binding.value.name == "/".join(filter(None, (inner_scope, inner.__name__)))


class Judged(NamedTuple):
    """Bindings of this root by (scope, class, field), last one wins, and those of other entry points."""

    mine: dict[tuple[str, str, str], Binding]
    elsewhere: list[Binding]


def _judge(bindings: list[Binding], root: type) -> Judged:
    """Checks names, scopes and types of everything that was bound; ValueError with place and suggestion."""
    classes = _classes(root)
    scopes = {scope for *_, scope in _nested(root)}
    macros = {b.owner: b.value for b in bindings if not b.field}
    roots, others = [root], dict[str, type]()
    judged, used = Judged({}, []), set[str]()
    for binding in bindings:
        if binding.field and binding.owner not in classes and not others:
            roots += _known_roots()
            others = {name: cls for known in roots for name, cls in _classes(known).items()}
        if not binding.field or any(_is_own_link(binding, known) for known in roots):
            continue
        value = _resolve(binding.value, macros, used, binding.where)
        if binding.scope not in ("", *SCOPES):
            raise ValueError(f"{binding.where}: unknown scope {binding.scope!r}{_suggestion(binding.scope, SCOPES)}")
        cls = classes.get(binding.owner)
        if cls is None:
            cls = others.get(binding.owner)
            if cls is None:
                hint = _suggestion(binding.owner, classes | others)
                raise ValueError(f"{binding.where}: unknown name {binding.owner!r}{hint}")
        hints = _hints(cls)
        if binding.field not in hints:
            hint = _suggestion(binding.field, hints)
            raise ValueError(f"{binding.where}: {binding.owner} has no setting {binding.field!r}{hint}")
        place = f"{binding.where}: {binding.owner}.{binding.field}"
        binding = binding._replace(value=_coerce(value, hints[binding.field], place))
        if binding.owner in classes and (not binding.scope or binding.scope in scopes):
            judged.mine[binding.scope, binding.owner, binding.field] = binding
        else:
            judged.elsewhere.append(binding)
    for name in set(macros) - used:
        where = next(b.where for b in bindings if not b.field and b.owner == name)
        raise ValueError(f"{where}: macro {name} is never used{_suggestion(name, classes)}")
    return judged


def _missing(root: type, judged: Judged) -> list[str]:
    """The settings without a default, as `Class.field`, that were bound nowhere."""
    places = [(root, "")] + [(_hints(owner)[name], scope) for owner, _, name, scope in _nested(root)]
    return [
        f"{cls.__name__}.{field.name}"
        for cls, scope in places
        for field in dataclasses.fields(cls)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if not dataclasses.is_dataclass(_hints(cls)[field.name])
        if not any((s, cls.__name__, field.name) in judged.mine for s in {scope, ""})
    ]


def load(root: type[T], arguments: Arguments, unread: Mapping[str, Any] = types.MappingProxyType({})) -> T:
    """Builds `root` from the gin files and overrides; with --print_config prints it and exits with status 0.

    unread: settings, as `Class.field`, that this call of the entry point does not read, a dry run say, with what stands
    in for the value that was not given.

    Raises ValueError, with file, line and a suggestion, for an unknown name, scope or macro, a wrong type, or a setting
    that has no value.
    """
    classes = _classes(root)
    bindings = [b for file in arguments.files for b in _read_file(file, Path.cwd())]
    bindings += [_read_override(text, classes) for text in arguments.overrides]
    judged = _judge(bindings, root)
    for name in set(_missing(root, judged)) & set(unread):
        owner, _, field = name.partition(".")
        judged.mine["", owner, field] = Binding("", owner, field, unread[name], "not given, and not read")
    missing = _missing(root, judged)
    if arguments.print_config:
        if not missing:
            _build(root, judged)
        print(_described(root, judged))
        sys.exit(0)
    if missing:
        raise ValueError(f"{missing[0]} has no value; give it as --gin.{missing[0]}=…")
    return _build(root, judged)


def _build(root: type[T], judged: Judged) -> T:
    """Hands everything to gin and takes the root from it; ValueError where values do not fit together."""
    import gin

    gin.clear_config()
    for name, cls in _classes(root).items():
        try:
            gin.get_configurable(name)
        except ValueError:
            gin.external_configurable(cls, name=name)
    for (scope, owner, field), binding in judged.mine.items():
        gin.bind_parameter((scope, owner, field), binding.value)
    for owner, scope, name, inner_scope in _nested(root):
        target = "/".join(filter(None, (inner_scope, _hints(owner)[name].__name__)))
        gin.parse_config(f"{scope + '/' if scope else ''}{owner.__name__}.{name} = @{target}()")
    gin.finalize()
    try:
        return gin.get_configurable(root.__name__)()
    except ValueError as error:
        # gin appends the chain of calls; where the fields named in the message were set helps more.
        message = str(error).partition("\n  In call to configurable")[0].strip()
        places = [f"{b.owner}.{b.field} is set in {b.where}" for b in judged.mine.values() if b.field in message]
        raise ValueError("\n  ".join([message, *places])) from None


def _described(root: type, judged: Judged) -> str:
    """Every setting with its value and where it was set, then the bindings that other entry points use."""
    lines: list[str] = []

    def walk(cls: type, scope: str) -> None:
        for field in dataclasses.fields(cls):
            hint = _hints(cls)[field.name]
            if isinstance(hint, type) and dataclasses.is_dataclass(hint):
                walk(hint, field.metadata.get("scope", scope))
                continue
            name = f"{scope + '/' if scope else ''}{cls.__name__}.{field.name}"
            bound = judged.mine.get((scope, cls.__name__, field.name)) or judged.mine.get(
                ("", cls.__name__, field.name)
            )
            if bound:
                lines.append(f"{name} = {bound.value!r}  # {bound.where}")
            elif field.default_factory is not dataclasses.MISSING:
                lines.append(f"{name} = {field.default_factory()!r}  # default")
            elif field.default is not dataclasses.MISSING:
                lines.append(f"{name} = {field.default!r}  # default")
            else:
                lines.append(f"# {name} has no value, and needs one")

    walk(root, "")
    if judged.elsewhere:
        lines += ["", "# not used here (settings of other entry points):"]
        for b in judged.elsewhere:
            lines.append(f"# {b.scope + '/' if b.scope else ''}{b.owner}.{b.field} = {b.value!r}  # {b.where}")
    return "\n".join(lines)


def gin_texts() -> dict[str, str]:
    """Returns what `load` read last as gin texts, by file name: what was bound, and all settings."""
    import gin

    return {"config.gin": gin.config_str(), "operative_config.gin": gin.operative_config_str()}
