"""Reads tokenizers of GGUF files and Hugging Face folders into the file of an imported tokenizer."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mindllm_jax.files import read_json
from mindllm_jax.tokenization.imported_model import imported_model
from mindllm_jax.tokenization.mindllm_format import CHAT_TEMPLATE, END_OF_TEXT
from mindllm_jax.tokenization.tokenizer import Tokenizer

_LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_QWEN2_PATTERN = _LLAMA3_PATTERN.replace(r"\p{N}{1,3}", r"\p{N}")

# How texts are split before BPE, by `tokenizer.ggml.pre`. Source: llama.cpp's llama-vocab.cpp, whose patterns are those
# of the models' own tokenizer.json.
_GPT2_SPLIT = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_DIGITS_SPLIT = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, _GPT2_SPLIT]}


def _pattern_split(pattern: str) -> dict[str, Any]:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, _GPT2_SPLIT | {"use_regex": False}]}


_SPLITS = {
    "gpt-2": _GPT2_SPLIT,
    "smollm": _DIGITS_SPLIT,
    "starcoder": _DIGITS_SPLIT,
    "llama-bpe": _pattern_split(_LLAMA3_PATTERN),
    "llama3": _pattern_split(_LLAMA3_PATTERN),
    "llama-v3": _pattern_split(_LLAMA3_PATTERN),
    "qwen2": _pattern_split(_QWEN2_PATTERN),
}
_WHOLE_PIECES_FIRST = {"llama-bpe", "llama3", "llama-v3"}
"""Those where a word that is a piece is never split by merges."""

_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4  # of tokenizer.ggml.token_type

_SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")


def from_gguf(metadata: Mapping[str, Any]) -> bytes:
    """Returns the file of the imported tokenizer of a GGUF file.

    Args:
        metadata: values by key; arrays are lists.

    Raises:
        ValueError: a key is missing, or the tokenizer is of a kind that is not supported; the reason is named.
        ImportError: the library tokenizers is not installed.
    """

    def value(key: str) -> Any:
        if f"tokenizer.{key}" not in metadata:
            raise ValueError(f"the GGUF file has no tokenizer.{key}, so its tokenizer cannot be read")
        return metadata[f"tokenizer.{key}"]

    model, split = value("ggml.model"), metadata.get("tokenizer.ggml.pre", "default")
    if model != "gpt2":
        raise ValueError(
            f"the GGUF file's tokenizer.ggml.model is {model!r}; only 'gpt2', byte-level BPE, keeps every text exactly"
        )
    if split not in _SPLITS:
        raise ValueError(
            f"the GGUF file's tokenizer.ggml.pre is {split!r}; supported pre-tokenizers are {', '.join(_SPLITS)}"
        )
    pieces: list[str] = value("ggml.tokens")
    kinds: Sequence[int] = metadata.get("tokenizer.ggml.token_type") or [1] * len(pieces)
    ids = {name: metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos", "padding", "eot", "eom")}
    wrong = [f"{name} = {id}" for name, id in ids.items() if id is not None and not 0 <= id < len(pieces)]
    if len(kinds) != len(pieces) or wrong:
        raise ValueError(f"the GGUF file has {len(pieces)} pieces, but {len(kinds)} types of pieces {' '.join(wrong)}")
    named = {id for id in ids.values() if id is not None}
    added = [
        _added(id, piece, special=kinds[id] in (_UNKNOWN, _CONTROL) or id in named)
        for id, piece in enumerate(pieces)
        if kinds[id] in (_UNKNOWN, _CONTROL, _USER_DEFINED) or id in named
    ]
    tokenizer = _byte_level_json(
        {piece: id for id, piece in enumerate(pieces)},
        [merge.split(" ") for merge in value("ggml.merges")],
        added,
        _SPLITS[split],
        ignore_merges=split in _WHOLE_PIECES_FIRST,
    )
    names = {"bos_token": ids["bos"], "eos_token": ids["eos"], "pad_token": ids["padding"]}
    special = {name: pieces[id] for name, id in names.items() if id is not None}
    ends = [id for name in ("eos", "eot", "eom") if (id := ids[name]) is not None]
    # llama.cpp puts BOS before a text of Llama 3's tokenizer where a file does not say.
    if metadata.get("tokenizer.ggml.add_bos_token", split in _WHOLE_PIECES_FIRST) and (bos := ids["bos"]) is not None:
        tokenizer["post_processor"] = _bos_before(pieces[bos], bos)
    template = metadata.get("tokenizer.chat_template")
    return _imported(Path("the GGUF file's tokenizer"), tokenizer, special, ends, template)


def from_hugging_face(folder: Path) -> bytes:
    """Returns the file of the imported tokenizer of a Hugging Face folder.

    Reads tokenizer.json, or GPT-2's vocab.json, merges.txt and added_tokens.json; special tokens from
    tokenizer_config.json and special_tokens_map.json; the ends of an answer from generation_config.json; the chat
    template from chat_template.jinja or tokenizer_config.json, there perhaps as the default of several. A folder
    without a template gets MindLLM's.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: a file is malformed, or the tokenizer is of a kind that is not supported; the reason is named.
        ImportError: the library tokenizers is not installed.
    """
    config = _json(folder / "tokenizer_config.json")
    special = _special_tokens(_json(folder / "special_tokens_map.json") | config)
    if (folder / "tokenizer.json").exists():
        tokenizer = _json(folder / "tokenizer.json")
    else:
        tokenizer = _from_gpt2_files(folder, special)
    ids = _added_ids(folder, tokenizer.setdefault("added_tokens", []))
    _require_added(folder, config.get("added_tokens_decoder") or {}, ids)
    missing = [f"{name} {piece!r}" for name, piece in special.items() if piece not in ids]
    if missing:
        raise ValueError(f"{folder}: the tokenizer has no added token for its {', '.join(missing)}")
    for piece in tokenizer["added_tokens"]:
        piece["special"] = piece.get("special", False) or piece["content"] in special.values()
    # Where there is a tokenizer.json, transformers goes by its post-processor alone.
    if not (folder / "tokenizer.json").exists() and config.get("add_bos_token") and "bos_token" in special:
        tokenizer["post_processor"] = _bos_before(special["bos_token"], ids[special["bos_token"]])
    stated = _json(folder / "generation_config.json").get("eos_token_id")
    if stated is None and "eos_token" not in special:
        stated = _json(folder / "config.json").get("eos_token_id")
    ends = [] if stated is None else stated if isinstance(stated, list) else [stated]
    if "eos_token" in special:
        ends = list(dict.fromkeys([*ends, ids[special["eos_token"]]]))
    return _imported(folder, tokenizer, special, ends, _chat_template(folder, config))


def _bos_before(name: str, id: int) -> dict[str, Any]:
    """Returns the post-processor that puts a symbol before a text."""
    bos = {"SpecialToken": {"id": name, "type_id": 0}}
    texts = [{"Sequence": {"id": letter, "type_id": number}} for number, letter in enumerate("AB")]
    return {
        "type": "TemplateProcessing",
        "single": [bos, texts[0]],
        "pair": [bos, texts[0], bos, texts[1]],
        "special_tokens": {name: {"id": name, "ids": [id], "tokens": [name]}},
    }


def _imported(
    path: Path, tokenizer: dict[str, Any], special: Mapping[str, str], ends: Sequence[int], template: str | None
) -> bytes:
    """Returns the file, read once to check it."""
    ids = {piece["content"]: piece["id"] for piece in tokenizer["added_tokens"] if piece["special"]}
    if not ends:
        raise ValueError(
            f"{path} names no piece that ends an answer: add eos_token to tokenizer_config.json, or eos_token_id to "
            "generation_config.json"
        )
    eos = ends[0]
    bos = ids.get(special.get("bos_token", ""), eos)
    content = imported_model(
        tokenizer,
        pad=ids.get(special.get("pad_token", ""), eos),
        # An instruction-tuned model's bos and eos are often those of messages.
        doc=ids.get(END_OF_TEXT, bos),
        ends=ends,
        special_tokens=special,
        chat_template=CHAT_TEMPLATE if template is None else template,
    )
    Tokenizer(path, content)
    return content


def _from_gpt2_files(folder: Path, special: dict[str, str]) -> dict[str, Any]:
    """Returns the tokenizer.json of GPT-2's vocab.json, merges.txt and perhaps added_tokens.json; adds to `special`."""
    for name in ("vocab.json", "merges.txt"):
        if not (folder / name).exists():
            raise FileNotFoundError(f"{folder} has neither tokenizer.json nor {name}, so its tokenizer cannot be read")
    vocab = _json(folder / "vocab.json")
    lines = _text(folder / "merges.txt").split("\n")
    merges = [line.split(" ") for line in lines if line and not line.startswith("#version")]
    for name in ("bos_token", "eos_token"):
        special.setdefault(name, END_OF_TEXT)
    added = _json(folder / "added_tokens.json")
    ids = {piece: vocab[piece] for piece in special.values() if piece in vocab} | added
    pieces = [_added(id, piece, special=piece in special.values()) for piece, id in ids.items()]
    pieces.sort(key=lambda piece: piece["id"])
    return _byte_level_json(vocab, merges, pieces, _GPT2_SPLIT, ignore_merges=False)


def _added_ids(folder: Path, added: Any) -> dict[str, int]:
    """Returns the ids of added tokens by their text. Raises ValueError where they are not such a list."""
    match added:
        case list() if all(isinstance(piece, dict) for piece in added):
            texts = [(piece.get("content"), piece.get("id")) for piece in added]
            if all(isinstance(text, str) and isinstance(id, int) for text, id in texts):
                return dict(texts)
    raise ValueError(f"{folder / 'tokenizer.json'}: added_tokens must be a list of objects with content and id")


def _require_added(folder: Path, listed: Any, ids: Mapping[str, int]) -> None:
    """Raises ValueError for an added token of tokenizer_config.json that the tokenizer itself does not have."""
    match listed:
        case dict() if all(isinstance(piece, dict) and "content" in piece for piece in listed.values()):
            texts = {id: piece["content"] for id, piece in listed.items()}
            lacking = {id: text for id, text in texts.items() if str(ids.get(text)) != id}
        case _:
            raise ValueError(
                f"{folder / 'tokenizer_config.json'}: added_tokens_decoder must hold objects with content by id"
            )
    if lacking:
        raise ValueError(
            f"{folder}: tokenizer_config.json adds tokens that the tokenizer's own file lacks, or has by other ids: "
            f"{', '.join(f'{text!r} (id {id})' for id, text in lacking.items())}; load the tokenizer with "
            "transformers and save it again"
        )


def _chat_template(folder: Path, config: Mapping[str, Any]) -> str | None:
    """Returns the template of a folder, the default of several; None where it has none."""
    file = folder / "chat_template.jinja"
    if file.exists():
        return _text(file)
    match config.get("chat_template"):
        case list() as several:
            where = f"{folder / 'tokenizer_config.json'}: chat_template"
            if not all(isinstance(one, dict) and {"name", "template"} <= one.keys() for one in several):
                raise ValueError(f"{where} must be a text, or a list of objects with name and template")
            templates = {one["name"]: one["template"] for one in several}
            if templates and "default" not in templates:
                raise ValueError(
                    f"{where} has the names {', '.join(map(str, templates))}, and none is 'default': name the one "
                    "that is meant so"
                )
            return templates.get("default")
        case template:
            return template


def _special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """Returns the named special tokens, each a text or an object with its `content`."""
    values = {name: config.get(name) for name in _SPECIAL}
    contents = {name: value.get("content") if isinstance(value, dict) else value for name, value in values.items()}
    return {name: content for name, content in contents.items() if content is not None}


def _added(id: int, piece: str, *, special: bool) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": not special}
    return {"id": id, "content": piece, **flags, "special": special}


def _byte_level_json(
    vocab: Mapping[str, int],
    merges: Sequence[Sequence[str]],
    added: Sequence[Mapping[str, Any]],
    pre_tokenizer: Mapping[str, Any],
    *,
    ignore_merges: bool,
) -> dict[str, Any]:
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": list(added),
        "normalizer": None,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": ignore_merges,
            "vocab": vocab,
            "merges": merges,
        },
    }


def _text(path: Path) -> str:
    """Returns the text of a file. Raises ValueError that names it where it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: damaged: not UTF-8 text at byte {error.start}") from None


def _json(path: Path) -> dict[str, Any]:
    """Returns the object of a JSON file, an empty one where there is none."""
    return read_json(path) if path.exists() else {}
