"""Checks of bindings against the settings: unknown names, wrong types, macros, missing values; errors name the line."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from mindllm_jax.checks import suggestion
from mindllm_jax.configuration.gin_files import Binding, Reference
from mindllm_jax.configuration.schema import classes, coerce, hints, is_required, nested

ROOTS = (
    "mindllm_jax.tokenization.training:TrainTokenizer",
    "mindllm_jax.corpus.settings:CleanCorpus",
    "mindllm_jax.corpus.source_code:CollectCode",
    "mindllm_jax.store.prepare:PrepareData",
    "mindllm_jax.training.pretrain:Pretrain",
    "mindllm_jax.planning.planner:Planner",
    "mindllm_jax.instruct.tune:Tune",
    "mindllm_jax.evaluation.benchmarks.convert:PrepareBenchmarks",
    "mindllm_jax.instruct.selection.settings:SelectInstructions",
    "mindllm_jax.instruct.domains.prepare:PrepareInstructions",
    "mindllm_jax.instruct.domains.ask:AskRationales",
    "mindllm_jax.instruct.domains.classify:Classify",
    "mindllm_jax.instruct.ranking.settings:RankAnswers",
    "mindllm_jax.evaluation.evaluate:Evaluate",
    "mindllm_jax.generation.chat:Chat",
    "mindllm_jax.serving.server:Serve",
    "mindllm_jax.recipes.demo.corpus:DemoCorpus",
    "mindllm_jax.interop.convert:Convert",
    "mindllm_jax.ablations.suite:Suite",
    "mindllm_jax.recipes.hardware_check.steps:HardwareCheck",
)
"""Root dataclasses of the entry points; imported only when the current root does not have a name."""


class Bindings(NamedTuple):
    """The bindings of a root by (class, field), the last of each, and those of other entry points."""

    used: dict[tuple[str, str], Binding]
    unused: list[Binding]

    def missing(self, root: type) -> list[str]:
        """Returns the required settings without a binding, as `Class.field`."""
        return [
            f"{cls.__name__}.{field.name}"
            for cls in classes(root).values()
            for field in dataclasses.fields(cls)
            if is_required(field) and not dataclasses.is_dataclass(hints(cls)[field.name])
            if (cls.__name__, field.name) not in self.used
        ]

    def describe(self, root: type) -> str:
        """Returns every setting with its value and where it was set, then the unused bindings."""
        lines: list[str] = []

        def walk(cls: type) -> None:
            for field in dataclasses.fields(cls):
                hint = hints(cls)[field.name]
                if isinstance(hint, type) and dataclasses.is_dataclass(hint):
                    walk(hint)
                    continue
                name, bound = f"{cls.__name__}.{field.name}", self.used.get((cls.__name__, field.name))
                if bound:
                    lines.append(f"{name} = {bound.value!r}  # {bound.where}")
                elif is_required(field):
                    lines.append(f"# {name} is required and has no value")
                elif field.default_factory is not dataclasses.MISSING:
                    lines.append(f"{name} = {field.default_factory()!r}  # default")
                else:
                    lines.append(f"{name} = {field.default!r}  # default")

        walk(root)
        if self.unused:
            lines += ["", "# unused (settings of other entry points):"]
            lines += [f"# {b.owner}.{b.field} = {b.value!r}  # {b.where}" for b in self.unused]
        return "\n".join(lines)


def known_roots() -> list[type]:
    """Imports and returns the root dataclasses of all entry points."""
    entries = (entry.partition(":") for entry in ROOTS)
    return [getattr(importlib.import_module(module), name) for module, _, name in entries]


def check(bindings: list[Binding], root: type) -> Bindings:
    """Returns the bindings with macros resolved and values coerced to the types of their fields.

    Raises ValueError, with place and suggestion, for an unknown name or macro, a wrong type, or an unused macro.
    """
    settings = classes(root)
    macros = {b.owner: b.value for b in bindings if not b.field}
    roots, others = [root], dict[str, type]()
    checked, used = Bindings({}, []), set[str]()
    for binding in bindings:
        if binding.field and binding.owner not in settings and not others:
            roots += known_roots()
            others = {name: cls for known in roots for name, cls in classes(known).items()}
        if not binding.field or any(_is_nested_link(binding, known) for known in roots):
            continue
        value = _resolve(binding.value, macros, used, binding.where)
        cls = settings.get(binding.owner) or others.get(binding.owner)
        if cls is None:
            hint = suggestion(binding.owner, settings | others)
            raise ValueError(f"{binding.where}: unknown name {binding.owner!r}{hint}")
        fields = hints(cls)
        if binding.field not in fields:
            hint = suggestion(binding.field, fields)
            raise ValueError(f"{binding.where}: {binding.owner} has no setting {binding.field!r}{hint}")
        place = f"{binding.where}: {binding.owner}.{binding.field}"
        binding = binding._replace(value=coerce(value, fields[binding.field], place))
        if binding.owner in settings:
            checked.used[binding.owner, binding.field] = binding
        else:
            checked.unused.append(binding)
    for name in set(macros) - used:
        where = next(b.where for b in bindings if not b.field and b.owner == name)
        if cls := (settings | others).get(name):
            raise ValueError(f"{where}: {name} is a group of settings: set one, as {name}.{next(iter(hints(cls)))}")
        raise ValueError(f"{where}: macro {name} is never used{suggestion(name, settings)}")
    return checked


def _resolve(value: Any, macros: Mapping[str, Any], used: set[str], where: str, depth: int = 0) -> Any:
    """Replaces the macros in `value` by their values."""
    if depth > 20:
        raise ValueError(f"{where}: macros refer to each other in a circle")
    if isinstance(value, Reference):
        if value.sign != "%":
            raise ValueError(f"{where}: {value.sign}{value.name}: do not bind a dataclass with @; set its fields")
        if value.name not in macros:
            raise ValueError(f"{where}: unknown macro %{value.name}{suggestion(value.name, macros)}")
        used.add(value.name)
        return _resolve(macros[value.name], macros, used, where, depth + 1)
    if isinstance(value, list | tuple):
        return type(value)(_resolve(item, macros, used, where, depth) for item in value)
    if isinstance(value, dict):
        return {k: _resolve(v, macros, used, where, depth) for k, v in value.items()}
    return value


def _is_nested_link(binding: Binding, root: type) -> bool:
    """Returns whether a binding is `Owner.field = @Class()` as in an operative config; `load` makes these itself."""
    if not isinstance(binding.value, Reference) or binding.value.sign != "@":
        return False
    links = {(owner.__name__, name): inner.__name__ for owner, name, inner in nested(root)}
    return links.get((binding.owner, binding.field)) == binding.value.name
