"""The model that a server answers with, and the requests of `generation` that a body asks for."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindllm_jax.batching.chat_format import encode_prompt
from mindllm_jax.checks import MAX_SEED
from mindllm_jax.files import sha256
from mindllm_jax.generation.requests import Request
from mindllm_jax.generation.sampling import Sampling
from mindllm_jax.hashing import hash64
from mindllm_jax.serving.errors import ApiError
from mindllm_jax.serving.request_bodies import Body, ChatBody, TextBody
from mindllm_jax.tokenization.tokenizer import Tokenizer
from mindllm_jax.training.checksums import CHECKSUMS

TEXT_MAX_TOKENS = 16  # of a text completion that names no max_tokens, as OpenAI's API has it


@dataclass(frozen=True)
class ServedModel:
    """A run's model as the API describes it.

    Attributes:
        name: the model's id, the name of the run's folder.
        created: seconds since 1970 at which the checkpoint was written.
        fingerprint: `system_fingerprint`, of the checkpoint's content.
        tokenizer: its tokenizer.
        capacity: tokens of a prompt and its answer at most, as of the scheduler.
        sampling: used where a body leaves a field out.
    """

    name: str
    created: int
    fingerprint: str
    tokenizer: Tokenizer
    capacity: int
    sampling: Sampling

    @classmethod
    def of(cls, run: Path, checkpoint: Path, tokenizer: Tokenizer, capacity: int, sampling: Sampling) -> ServedModel:
        """Returns the model of a run's checkpoint. Raises OSError when the checkpoint has no checksums."""
        written = int((checkpoint / CHECKSUMS).stat().st_mtime)
        digest = sha256(checkpoint / CHECKSUMS)
        return cls(run.resolve().name, written, f"fp_{digest[:12]}", tokenizer, capacity, sampling)

    @property
    def card(self) -> dict[str, Any]:
        """The entry of /v1/models; `max_model_len` (as of vLLM) and `sampling` (for the page) are extensions."""
        sampling = {name: getattr(self.sampling, name) for name in ("temperature", "top_p", "max_tokens")}
        return {
            "id": self.name,
            "object": "model",
            "created": self.created,
            "owned_by": "mindllm-jax",
            "max_model_len": self.capacity,
            "sampling": sampling | {"top_k": self.sampling.top_k or 0},
        }

    def check_name(self, name: str) -> None:
        """Raises ApiError (404) for another model's id."""
        if name != self.name:
            raise ApiError(
                404, f"there is no model {name!r}; this server has {self.name!r}", param="model", code="model_not_found"
            )

    def requests(self, body: ChatBody | TextBody) -> list[Request]:
        """Returns the requests of a body, `n` per prompt. Raises ApiError (400) for a prompt that cannot be."""
        return self._chat_requests(body) if isinstance(body, ChatBody) else self._text_requests(body)

    def _chat_requests(self, body: ChatBody) -> list[Request]:
        try:
            prompt = encode_prompt(self.tokenizer, body.messages).tolist()
        except ValueError as error:  # of the chat template, as for roles out of order
            reason = str(error).replace(f" of {self.tokenizer.path}", "")  # no client needs the server's paths
            raise ApiError(400, reason, param="messages") from None
        return self._requests(body, [prompt], self.tokenizer.ends, "messages")

    def _text_requests(self, body: TextBody) -> list[Request]:
        try:
            prompts = [list(prompt) if isinstance(prompt, tuple) else self._document(prompt) for prompt in body.prompts]
        except ValueError as error:  # a lone surrogate
            raise ApiError(400, str(error), param="prompt") from None
        vocab_size = self.tokenizer.vocab_size
        if any(not 0 <= id < vocab_size for prompt in prompts for id in prompt):
            raise ApiError(400, f"'prompt' has a token id outside the vocabulary of {vocab_size}", param="prompt")
        return self._requests(body, prompts, self.tokenizer.text_ends, "prompt")

    def _document(self, text: str) -> list[int]:
        return [self.tokenizer.doc_id, *self.tokenizer.encode(text).tolist()]

    def _requests(
        self, body: Body, prompts: Sequence[list[int]], stop_ids: tuple[int, ...], param: str
    ) -> list[Request]:
        seed = secrets.randbelow(MAX_SEED) if body.seed is None else body.seed
        return [
            Request(
                prompt,
                self._sampling(body, len(prompt), _seed(seed, number * body.n + choice), param),
                stop_ids,
                body.stop,
                body.logprobs,
            )
            for number, prompt in enumerate(prompts)
            for choice in range(body.n)
        ]

    def _sampling(self, body: Body, prompt_tokens: int, seed: int, param: str) -> Sampling:
        """Returns the body's sampling with the defaults filled in. Raises ApiError (400) where it does not fit."""
        room = self.capacity - prompt_tokens
        default = self.sampling.max_tokens
        if default is None:
            default = room if isinstance(body, ChatBody) else TEXT_MAX_TOKENS
        asked = body.max_tokens
        if room < (asked or 1):
            raise ApiError(
                400,
                f"the model's context is {self.capacity} tokens, and {prompt_tokens} of '{param}' with "
                f"{asked or 1} of the answer are {prompt_tokens + (asked or 1)}: shorten '{param}' or 'max_tokens'",
                param=param,
                code="context_length_exceeded",
            )
        given = {"temperature": body.temperature, "top_p": body.top_p, "top_k": body.top_k}
        changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if body.top_k == 0:
            changes["top_k"] = None
        return dataclasses.replace(self.sampling, **changes, max_tokens=asked or min(default, room), seed=seed)


def _seed(seed: int, choice: int) -> int:
    """Returns the seed of a choice: that of the first is the body's own, so that it does not depend on `n`."""
    return seed if choice == 0 and 0 <= seed <= MAX_SEED else hash64(seed, choice) & MAX_SEED
