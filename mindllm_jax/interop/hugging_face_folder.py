"""Reads a Hugging Face folder: config.json, weights in one file or several, and the tokenizer."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from mindllm_jax.files import read_json
from mindllm_jax.interop import safetensors_files, torch_file
from mindllm_jax.interop.imported_tokenizer import from_hugging_face
from mindllm_jax.interop.sources import Source, StoredTensor
from mindllm_jax.interop.tokenizer import hugging_face_files
from mindllm_jax.tokenization.tokenizer import Tokenizer

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""The names of the weights, the preferred first; NAME.index.json lists the files where there are several."""

OUR_TOKENIZER = "mindllm_tokenizer.model"
"""Our tokenizer file in a folder that we exported, so that its run can be made again."""

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def read(folder: Path) -> Source:
    """Returns the folder's configuration and tensors; safetensors are preferred to pickled files.

    Raises:
        FileNotFoundError: config.json or the weights are missing.
        ValueError: a file is damaged.
        ImportError: the library of the format is not installed.
    """
    config = read_config(folder)
    name, files = _files(folder)
    read_file = safetensors_files.tensors_of if name == WEIGHTS[0] else torch_file.tensors_of
    tensors: dict[str, StoredTensor] = {}
    for file in files:
        _require_content(file)
        for tensor, stored in read_file(file).items():
            if tensor in tensors:
                raise ValueError(f"{tensor} is in {tensors[tensor].file} and in {file}: remove one of them")
            tensors[tensor] = stored
    facts = {
        "format": "safetensors" if name == WEIGHTS[0] else "PyTorch",
        "name": config.get("_name_or_path") or folder.resolve().name,
        "license": _license(folder),
    }
    return Source(folder, config, tensors, partial(_tokenizer, folder), facts, tuple(files))


def read_config(folder: Path) -> dict[str, Any]:
    """Returns the fields of config.json. Raises FileNotFoundError or ValueError that names it."""
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no config.json: give a folder of a Hugging Face model")
    return read_json(path)


def _files(folder: Path) -> tuple[str, list[Path]]:
    """Returns the name of the weights, and their files."""
    for name in WEIGHTS:
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            return name, [folder / name]
        if index.is_file():
            names = read_json(index).get("weight_map")
            if not isinstance(names, dict) or not all(isinstance(file, str) for file in names.values()):
                raise ValueError(f"{index}: damaged: weight_map does not list the files of tensors")
            files = [folder / file for file in sorted(set(names.values()))]
            for file in files:
                if file.parent != folder or not file.is_file():
                    raise FileNotFoundError(f"{file} is missing, but {index} lists it; download it too")
            return name, files
    raise FileNotFoundError(f"{folder} holds neither {' nor '.join(WEIGHTS)} (or several with an .index.json)")


def _require_content(file: Path) -> None:
    """Raises ValueError for what git leaves in the place of a file that Git LFS did not download."""
    with file.open("rb") as opened:
        if opened.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise ValueError(f"{file}: a pointer of Git LFS and not the weights: download them by `git lfs pull`")


def _tokenizer(folder: Path) -> bytes:
    ours = folder / OUR_TOKENIZER
    if not ours.is_file():
        return from_hugging_face(folder)
    tokenizer = Tokenizer.load(ours)
    _require_unchanged(folder, tokenizer)
    return tokenizer.model


def _require_unchanged(folder: Path, tokenizer: Tokenizer) -> None:
    """Raises ValueError where the files that transformers reads are not those of the tokenizer beside them."""
    files = hugging_face_files(tokenizer)
    pieces, template = folder / "tokenizer.json", folder / "chat_template.jinja"
    is_equal = {
        pieces: not pieces.is_file() or _meaning(read_json(pieces)) == _meaning(json.loads(files[pieces.name])),
        template: not template.is_file() or template.read_bytes() == files[template.name].encode(),
    }
    if changed := [path.name for path, equal in is_equal.items() if not equal]:
        raise ValueError(
            f"{folder}: {' and '.join(changed)} was changed beside {OUR_TOKENIZER}, which is imported: restore the "
            f"exported file, or remove {OUR_TOKENIZER} to import the changed tokenizer"
        )


def _meaning(tokenizer: Any) -> Any:
    """Returns a tokenizer.json without a template that adds nothing, which transformers writes where there is none."""
    if (tokenizer.get("post_processor") or {}).get("special_tokens") == {}:
        return tokenizer | {"post_processor": None}
    return tokenizer


def _license(folder: Path) -> str | None:
    """Returns the licence that the front matter of the folder's model card states."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    lines = card.read_text("utf-8", errors="replace").splitlines()
    if not lines or lines[0].strip() != "---":
        return None
    for line in lines[1:]:
        if line.strip() == "---":
            break
        key, _, value = line.partition(":")
        if key.strip() == "license" and (license := value.partition(" #")[0].strip().strip("'\"")):
            return license
    return None
