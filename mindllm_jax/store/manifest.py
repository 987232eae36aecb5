"""The manifest of a token store (manifest.json), validated field by field."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from mindllm_jax import configuration
from mindllm_jax.text.names import is_source_name

FORMAT = 1
SPLITS = ("train", "held_out")
ARRAYS = ("tokens", "offsets", "bytes")

DAMAGED = "the token store is damaged; remove it and write it again with launch/prepare_data.py"


@dataclass(frozen=True)
class SplitInfo:
    """One split of a source: `tokens` counts the `<doc>` that begins each document, `bytes` the UTF-8 of the texts."""

    documents: int
    tokens: int
    bytes: int


@dataclass(frozen=True)
class SourceInfo:
    """One source of a store.

    Attributes:
        language: language of all its documents.
        splits: `train` and `held_out`, by name.
        inputs: names by sha256 of the files that it was made from.
        files: sha256 of each of its files in the store, by name.
    """

    language: str
    splits: dict[str, SplitInfo]
    inputs: dict[str, str]
    files: dict[str, str]


@dataclass(frozen=True)
class Manifest:
    """The tokenizer, settings and sources of a store."""

    tokenizer_sha256: str
    vocab_size: int
    doc_id: int
    pad_id: int
    seed: int
    held_out: float
    sources: dict[str, SourceInfo]
    format: int = FORMAT

    def to_json(self) -> bytes:
        """Returns the content of manifest.json."""
        return (json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n").encode()

    @classmethod
    def from_json(cls, content: bytes, where: str) -> Manifest:
        """Reads the manifest of the store at `where`.

        Raises ValueError, with file and field, when the content is damaged or of another format.
        """
        file = f"{where}/manifest.json"
        try:
            values = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file} is not JSON ({error}): {DAMAGED}") from None
        if isinstance(values, dict) and "format" in values and values["format"] != FORMAT:
            raise ValueError(
                f"{file}: the store is of format {values['format']!r}, this program reads {FORMAT}; write it again"
            )
        try:
            manifest = configuration.from_json(cls, values, file)
            for field, value, rule, holds in manifest._rules():
                if not holds:
                    raise ValueError(f"{file}: {field} = {value!r}: {rule}")
        except ValueError as error:
            raise ValueError(f"{error}: {DAMAGED}") from None
        return manifest

    def _rules(self) -> list[tuple[str, object, str, bool]]:
        """Returns field, value, rule, and whether the rule holds."""
        ids = f"must be an id below vocab_size = {self.vocab_size}"
        rules: list[tuple[str, object, str, bool]] = [
            ("vocab_size", self.vocab_size, "must be at least 1", self.vocab_size >= 1),
            ("doc_id", self.doc_id, ids, 0 <= self.doc_id < self.vocab_size),
            ("pad_id", self.pad_id, ids, 0 <= self.pad_id < self.vocab_size),
            ("held_out", self.held_out, "must be at least 0 and below 1", 0 <= self.held_out < 1),
        ]
        for name, source in self.sources.items():
            place = f"sources[{name!r}]"
            folder = [f"{name}/{split}/{array}/zarr.json" for split in SPLITS for array in ARRAYS]
            complete = all(file.startswith(f"{name}/") for file in source.files) and all(
                f in source.files for f in folder
            )
            rules += [
                ("sources", name, "not a valid name of a source", is_source_name(name)),
                (f"{place}.splits", sorted(source.splits), f"must be {SPLITS}", set(source.splits) == set(SPLITS)),
                (f"{place}.files", sorted(source.files)[:1], f"must be those of the folder {name}", complete),
            ]
            for split, info in source.splits.items():
                empty = info.documents == 0
                fit = 0 <= info.documents <= info.tokens and info.bytes >= 0
                fit = fit and empty == (info.tokens == 0) and not (empty and info.bytes)
                rules.append(
                    (f"{place}.splits[{split!r}]", info, "documents, tokens and bytes contradict each other", fit)
                )
        return rules
