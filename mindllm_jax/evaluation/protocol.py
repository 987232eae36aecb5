"""The protocol of an evaluation: what decides a score beside the weights and the items."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any, Literal

from mindllm_jax.checks import suggestion
from mindllm_jax.model.config import Model
from mindllm_jax.run_records import installed
from mindllm_jax.tokenization.tokenizer import Tokenizer

TOKENIZERS = "tokenizer"
"""The value of `Protocol.first_token` that leaves it to the tokenizer."""


@dataclass(frozen=True)
class Protocol:
    """Settings that turn the texts of a request into tokens; the defaults are what class `hf` of the harness does."""

    seam: Literal["together", "apart"] = "together"  # a continuation is encoded with its context and cut off, or alone
    first_token: str | None = TOKENIZERS  # symbol before a text; 'tokenizer': as the exported tokenizer; None: none
    chat_template: bool = False  # prompts are messages in the tokenizer's chat template, each example a turn
    system_prompt: str | None = None  # first message; without chat_template the beginning of every prompt

    def __post_init__(self) -> None:
        if self.seam not in ("together", "apart"):
            raise ValueError(f"Protocol.seam = {self.seam!r}: must be 'together' or 'apart'")

    def first_ids(self, tokenizer: Tokenizer) -> list[int]:
        """Returns the ids that begin every text. Raises ValueError for an unknown symbol."""
        if self.first_token is None:
            return []
        if self.first_token == TOKENIZERS:
            return list(tokenizer.first_ids)
        if self.first_token not in tokenizer.symbols:
            names = list(tokenizer.symbols)
            hint = suggestion(self.first_token, names) or f"; there are {', '.join(names)}"
            raise ValueError(f"Protocol.first_token: {tokenizer.path} has no symbol {self.first_token!r}{hint}")
        return [tokenizer.symbols[self.first_token]]

    def prefix_id(self, tokenizer: Tokenizer) -> int:
        """Returns the id that stands for an empty context: the first token, or else the tokenizer's bos or eos."""
        bos = tokenizer.symbols.get(tokenizer.special_tokens.get("bos_token", ""), tokenizer.ends[0])
        return [bos, *self.first_ids(tokenizer)][-1]

    def record(self, tokenizer: Tokenizer, model: Model) -> dict[str, Any]:
        """Returns the protocol as JSON values, with what else a score depends on, to be stored beside it.

        `first_token` names the symbols that begin a text and `prefix_token` the one that stands for an empty context;
        `compute_dtype`, `max_seq_len` and `vocab_size` are the model's, and `lm_eval` is the version of
        lm-evaluation-harness, None where it is not installed. Raises ValueError as `first_ids` does.
        """
        template = tokenizer.chat_template if self.chat_template else None
        return {
            **asdict(self),
            "first_token": "".join(map(tokenizer.piece, self.first_ids(tokenizer))) or None,
            "prefix_token": tokenizer.piece(self.prefix_id(tokenizer)),
            "chat_template_sha256": None if template is None else hashlib.sha256(template.encode()).hexdigest(),
            "tokenizer_sha256": tokenizer.sha256,
            "compute_dtype": model.dtype.name,
            "max_seq_len": model.max_seq_len,
            "vocab_size": model.vocab_size,
            "lm_eval": installed(("lm_eval",)).get("lm_eval"),
        }
