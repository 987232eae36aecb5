"""The JSON of answers: chat and text completions, whole or as the chunks of a stream."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any

from mindllm_jax.generation.requests import Piece, TokenLogprob
from mindllm_jax.serving.request_bodies import Body, ChatBody
from mindllm_jax.serving.served_model import ServedModel
from mindllm_jax.serving.token_logprobs import TextLogprobs, chat_logprobs

FINISH_REASONS = {"end": "stop", "stop": "stop", "length": "length"}


class Answer:
    """One answer, filled piece by piece: `chunk` streams a piece, `whole` returns all of them at once.

    Args:
        model: the served model.
        body: what was asked.
        prompt_tokens: tokens of all prompts.
        choices: number of choices.
    """

    def __init__(self, model: ServedModel, body: Body, prompt_tokens: int, choices: int):
        self._model, self._body = model, body
        self._chat = isinstance(body, ChatBody)
        prefix, self._object = ("chatcmpl", "chat.completion") if self._chat else ("cmpl", "text_completion")
        self._id, self._created = f"{prefix}-{secrets.token_hex(12)}", int(time.time())
        self._prompt_tokens, self._completion_tokens = prompt_tokens, 0
        self._choices = range(choices)
        self._offsets = [TextLogprobs(model.tokenizer) for _ in self._choices]

    def opening(self) -> list[dict[str, Any]]:
        """Returns the chunks that begin a stream: the role of each message of a chat."""
        if not self._chat:
            return []
        delta = {"role": "assistant", "content": ""}
        return [self._chunk([self._choice(index, {"delta": delta}, None, None)]) for index in self._choices]

    def chunk(self, index: int, piece: Piece) -> dict[str, Any] | None:
        """Returns the chunk of a piece; None where it would show nothing."""
        self._completion_tokens += len(piece.tokens)
        if not (piece.text or piece.finish or piece.logprobs):
            return None
        delta = {"content": piece.text} if piece.text or piece.logprobs else {}
        content: dict[str, Any] = {"delta": delta} if self._chat else {"text": piece.text}
        logprobs = self._logprobs(index, piece.logprobs) if piece.logprobs else None
        return self._chunk([self._choice(index, content, logprobs, piece.finish)])

    def closing(self) -> list[dict[str, Any]]:
        """Returns the chunks that end a stream: the usage, if it was asked for."""
        return [self._chunk([]) | {"usage": self._usage()}] if self._body.include_usage else []

    def whole(self, pieces: Sequence[tuple[int, Piece]]) -> dict[str, Any]:
        """Returns the answer in one object, of the pieces of all choices."""
        choices: list[dict[str, Any]] = []
        for index in self._choices:
            own = [piece for choice, piece in pieces if choice == index]
            text = "".join(piece.text for piece in own)
            content: dict[str, Any] = {"text": text}
            if self._chat:
                content = {"message": {"role": "assistant", "content": text, "refusal": None}}
            given = [token for piece in own for token in piece.logprobs]
            logprobs = None if self._body.logprobs is None else self._logprobs(index, given)
            choices.append(self._choice(index, content, logprobs, own[-1].finish))
            self._completion_tokens += sum(len(piece.tokens) for piece in own)
        return self._envelope(self._object, choices) | {"usage": self._usage()}

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        kind = f"{self._object}.chunk" if self._chat else self._object
        usage = {"usage": None} if self._body.include_usage else {}
        return self._envelope(kind, choices) | usage

    def _envelope(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._model.name,
            "system_fingerprint": self._model.fingerprint,
            "choices": choices,
        }

    def _choice(
        self, index: int, content: dict[str, Any], logprobs: dict[str, Any] | None, finish: str | None
    ) -> dict[str, Any]:
        reason = None if finish is None else FINISH_REASONS[finish]
        return {"index": index, **content, "logprobs": logprobs, "finish_reason": reason}

    def _logprobs(self, index: int, logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
        if self._chat:
            return chat_logprobs(self._model.tokenizer, logprobs)
        return self._offsets[index].add(logprobs)

    def _usage(self) -> dict[str, int]:
        return {
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": self._completion_tokens,
            "total_tokens": self._prompt_tokens + self._completion_tokens,
        }
