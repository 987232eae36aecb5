"""Loads settings from the command line: reads and checks bindings; gin then builds the root."""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from mindllm_jax.configuration.arguments import Arguments
from mindllm_jax.configuration.bindings import Bindings, check
from mindllm_jax.configuration.gin_files import Binding, read_file, read_override
from mindllm_jax.configuration.schema import classes, nested

T = TypeVar("T")


def read(root: type, arguments: Arguments) -> Bindings:
    """Reads and checks the gin files and overrides of a command line.

    Raises ValueError, with file, line and a suggestion, for an unknown name or macro, or a wrong type.
    """
    known = classes(root)
    bindings = [b for file in arguments.files for b in read_file(file, Path.cwd())]
    macros = {b.owner for b in bindings if not b.field} | {text.partition("=")[0] for text in arguments.overrides}
    bindings += [read_override(text, known, macros) for text in arguments.overrides]
    return check(bindings, root)


def load(
    root: type[T],
    arguments: Arguments,
    unread: Mapping[str, Any] = types.MappingProxyType({}),
    bindings: Bindings | None = None,
) -> T:
    """Builds `root` from the gin files and overrides; with --print_config prints it and exits with status 0.

    unread: settings, as `Class.field`, that this call of the entry point does not read (a dry run), with the value to
    take if none was given. bindings: as from `read`, where they are read already; a pipe can be read once.

    Raises ValueError as `read` does, and for a setting that has no value.
    """
    checked = read(root, arguments) if bindings is None else bindings
    for name in set(checked.missing(root)) & set(unread):
        owner, _, field = name.partition(".")
        checked.used[owner, field] = Binding(owner, field, unread[name], "not given, not read")
    missing = checked.missing(root)
    if arguments.print_config:
        if not missing:
            _build(root, checked)
        print(checked.describe(root))
        sys.exit(0)
    if missing:
        raise ValueError(f"{missing[0]} has no value; give it as --gin.{missing[0]}=…")
    return _build(root, checked)


def _build(root: type[T], bindings: Bindings) -> T:
    """Binds everything in gin and returns the root; raises ValueError for values that do not fit together."""
    import gin

    gin.clear_config()
    for name, cls in classes(root).items():
        try:
            gin.get_configurable(name)
        except ValueError:
            gin.external_configurable(cls, name=name)
    for (owner, field), binding in bindings.used.items():
        gin.bind_parameter(f"{owner}.{field}", binding.value)
    for owner, field, inner in nested(root):
        gin.parse_config(f"{owner.__name__}.{field} = @{inner.__name__}()")
    gin.finalize()
    try:
        return gin.get_configurable(root.__name__)()
    except ValueError as error:
        # gin appends the chain of calls; the places where the named fields were set help more.
        message = str(error).partition("\n  In call to configurable")[0].strip()
        places = [f"{b.owner}.{b.field} is set in {b.where}" for b in bindings.used.values() if b.field in message]
        raise ValueError("\n  ".join([message, *places])) from None


def gin_texts() -> dict[str, str]:
    """Returns the configuration that `load` read last as gin texts by file name: bindings, and all settings."""
    import gin

    return {"config.gin": gin.config_str(), "operative_config.gin": gin.operative_config_str()}
