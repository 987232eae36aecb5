"""Small tokenizers of other projects' kinds, and folders of them."""

import json
from pathlib import Path
from typing import Any

from mindllm_jax.interop.tokenizer import hugging_face_files
from mindllm_jax.tokenization.tokenizer import Tokenizer

GPT2 = Path(__file__).parent / "fixtures/small_gpt2"
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def metadata() -> dict[str, Any]:
    """A GGUF file's, of GPT-2's small vocabulary and three more pieces."""
    vocab: dict[str, int] = json.loads((GPT2 / "encoder.json").read_text("utf-8"))
    pieces = [piece for piece, _ in sorted(vocab.items(), key=lambda item: item[1])]
    kinds = [3 if piece == "<|endoftext|>" else 1 for piece in pieces] + [3, 3, 4]
    pieces += ["<|im_start|>", "<|im_end|>", "小猫"]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": pieces,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": (GPT2 / "vocab.bpe").read_text("utf-8").splitlines()[1:],
        "tokenizer.ggml.bos_token_id": len(pieces) - 3,
        "tokenizer.ggml.eos_token_id": len(pieces) - 2,
        "tokenizer.chat_template": CHATML,
    }


def exported(tokenizer: Tokenizer, folder: Path) -> Path:
    """The folder with the tokenizer's Hugging Face files."""
    folder.mkdir(exist_ok=True)
    for name, content in hugging_face_files(tokenizer).items():
        (folder / name).write_text(content, encoding="utf-8")
    return folder


def gpt2_files(folder: Path) -> Path:
    """A folder as the published MindLLM's: GPT-2's files and added Chinese tokens."""
    folder.mkdir()
    (folder / "vocab.json").write_bytes((GPT2 / "encoder.json").read_bytes())
    (folder / "merges.txt").write_bytes((GPT2 / "vocab.bpe").read_bytes())
    size = len(json.loads((GPT2 / "encoder.json").read_text("utf-8")))
    added = {piece: size + n for n, piece in enumerate(["小猫", "小", "，", "你好", "猫和小"])}
    (folder / "added_tokens.json").write_text(json.dumps(added), "utf-8")
    names = ("bos_token", "eos_token", "unk_token")
    special = dict.fromkeys(names, "<|endoftext|>")
    (folder / "special_tokens_map.json").write_text(json.dumps(special), "utf-8")
    settings = {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    return folder
