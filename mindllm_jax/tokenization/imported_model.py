"""The file of an imported tokenizer: another project's byte-level BPE with its special tokens and chat template.

    {"format": "mindllm imported tokenizer 1", "pad": 2, "doc": 0, "ends": [2],
     "special_tokens": {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"},
     "chat_template": "…", "tokenizer": {…tokenizer.json of the library tokenizers…}}

`interop.imported_tokenizer` writes it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mindllm_jax.tokenization.byte_level_model import ByteLevelModel

_FORMAT = "mindllm imported tokenizer 1"

# Pre-tokenizers that leave out what they split at.
_REMOVING = {"BertPreTokenizer", "CharDelimiterSplit", "Whitespace", "WhitespaceSplit"}

_FIELDS: dict[str, type] = {
    "pad": int,
    "doc": int,
    "ends": list,
    "special_tokens": dict,
    "chat_template": str,
    "tokenizer": dict,
}


class ImportedModel(ByteLevelModel):
    """The `Pieces` of an imported tokenizer.

    Raises:
        ValueError: a field is missing or wrong, or the tokenizer is not of byte-level BPE; `path` is named.
        ImportError: the library tokenizers is not installed.
    """

    def __init__(self, path: Path, content: bytes) -> None:
        fields = _read(path, content)
        _check_kind(path, fields["tokenizer"])
        super().__init__(path, json.dumps(fields["tokenizer"], ensure_ascii=False))
        self.pad_id: int = fields["pad"]
        self.doc_id: int = fields["doc"]
        self.first_ids = self.symbols_before()
        self.ends: tuple[int, ...] = tuple(fields["ends"])
        self.special_tokens: dict[str, str] = fields["special_tokens"]
        self.chat_template: str = fields["chat_template"]
        for name, id in (("pad", self.pad_id), ("doc", self.doc_id), *(("ends", id) for id in self.ends)):
            if id not in self.symbols.values():
                raise ValueError(f"{path}: {name} = {id!r} is not the id of a special token")
        for name, piece in self.special_tokens.items():
            if piece not in self.symbols:
                raise ValueError(f"{path}: special_tokens.{name} = {piece!r} is not a special token")
        for id, piece in self._added.items():
            if not (piece.lstrip or piece.rstrip):
                continue
            if not piece.special:
                raise ValueError(
                    f"{path}: the piece {piece.content!r} (id {id}) is found in texts and strips white space beside it"
                    " (lstrip or rstrip); only tokenizers that keep every text are supported"
                )
            if piece.content in self.chat_template:
                raise ValueError(
                    f"{path}: the chat template writes the piece {piece.content!r} (id {id}), which strips white space"
                    " beside it (lstrip or rstrip); such templates are not supported"
                )


def is_imported(content: bytes) -> bool:
    """Returns whether the content of a tokenizer file is an imported tokenizer's."""
    return f'"format": "{_FORMAT[:-2]}'.encode() in content[:100]


def imported_model(
    tokenizer: Mapping[str, Any],
    *,
    pad: int,
    doc: int,
    ends: Sequence[int],
    special_tokens: Mapping[str, str],
    chat_template: str,
) -> bytes:
    """Returns the content of the file.

    Args:
        tokenizer: the tokenizer.json.
        pad, doc, ends: ids as `Tokenizer` has them.
        special_tokens: names of special tokens by variable of the chat template.
        chat_template: Jinja.
    """
    content = {
        "format": _FORMAT,
        "pad": pad,
        "doc": doc,
        "ends": list(ends),
        "special_tokens": dict(special_tokens),
        "chat_template": chat_template,
        "tokenizer": tokenizer,
    }
    return json.dumps(content, ensure_ascii=False).encode()


def tokenizer_json(content: bytes) -> str:
    """Returns the tokenizer.json inside the content of an imported tokenizer's file."""
    return json.dumps(json.loads(content)["tokenizer"], ensure_ascii=False, indent=1)


def _read(path: Path, content: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(content)
    except ValueError as error:
        raise ValueError(f"{path} is not JSON (or is cut off): {error}") from None
    if fields.get("format") != _FORMAT:
        raise ValueError(f"{path}: format = {fields.get('format')!r}, but this version reads {_FORMAT!r}")
    for name, kind in _FIELDS.items():
        if type(fields.get(name)) is not kind:
            raise ValueError(f"{path}: {name} must be a JSON {kind.__name__}, not {fields.get(name)!r:.60}")
    if not fields["ends"]:
        raise ValueError(f"{path}: ends is empty, so no answer would end; list the ids that end one")
    return fields


def _check_kind(path: Path, tokenizer: Mapping[str, Any]) -> None:
    """Raises ValueError, with the reason, for a tokenizer.json whose round trip is not exact."""
    model = _object(tokenizer.get("model"))
    splits = list(_steps(tokenizer.get("pre_tokenizer")))
    kinds = [step.get("type") for step in splits]
    removes = any(step.get("type") in _REMOVING or step.get("behavior") == "Removed" for step in splits)
    decoders = [step.get("type") for step in _steps(tokenizer.get("decoder"))]
    reasons = {
        f"its model is {model.get('type')}": model.get("type") != "BPE",
        "it falls back to bytes, as Llama's of SentencePiece's kind": bool(model.get("byte_fallback")),
        "it leaves out merges at random (dropout)": bool(model.get("dropout")),
        "it has an unknown piece": model.get("unk_token") is not None,
        "it normalises texts": tokenizer.get("normalizer") not in (None, {"type": "Sequence", "normalizers": []}),
        "its pre-tokenizer is not ByteLevel": "ByteLevel" not in kinds,
        "its pre-tokenizer removes text": removes,
        "its decoder is not ByteLevel": "ByteLevel" not in decoders,
    }
    for reason, holds in reasons.items():
        if holds:
            raise ValueError(f"{path}: {reason}; only byte-level BPE that keeps every text is supported")


def _steps(part: Any) -> Iterator[Mapping[str, Any]]:
    """Yields a pre-tokenizer or decoder, or those of a sequence."""
    if step := _object(part):
        yield step
        for name in ("pretokenizers", "decoders"):
            for inner in step.get(name) or ():
                yield from _steps(inner)


def _object(value: Any) -> Mapping[str, Any]:
    """Returns a JSON object, an empty one for any other value: the library tokenizers refuses that."""
    return value if isinstance(value, Mapping) else {}
