"""The public Python API: load a run, generate text, ask a question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, Unpack, overload

from mindllm_jax.batching.chat_format import encode_prompt
from mindllm_jax.batching.chat_template import Message
from mindllm_jax.generation.engine import Prompt, generate
from mindllm_jax.generation.sampling import Sampling
from mindllm_jax.model.config import Model
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.tokenization.tokenizer import Tokenizer
from mindllm_jax.training.load_run import load_decoder


class SamplingSettings(TypedDict, total=False):
    """The fields of `Sampling`, as keywords."""

    temperature: float
    top_k: int | None
    top_p: float
    max_tokens: int | None
    seed: int


@dataclass(frozen=True)
class Run:
    """A loaded run: the decoder with the parameters of one checkpoint, and its tokenizer.

    Attributes:
        decoder: Flax NNX module; tokens int32 [B T] to hidden states [B T D], `decoder.logits` to [B T V].
        config: the settings of the model.
        tokenizer: text to token ids and back.
        step: training steps behind the parameters.
    """

    decoder: Decoder
    config: Model
    tokenizer: Tokenizer
    step: int

    @overload
    def generate(self, prompt: str, *, stop: str | Sequence[str] = (), **sampling: Unpack[SamplingSettings]) -> str: ...

    @overload
    def generate(
        self, prompt: list[str], *, stop: str | Sequence[str] = (), **sampling: Unpack[SamplingSettings]
    ) -> list[str]: ...

    def generate(
        self, prompt: str | list[str], *, stop: str | Sequence[str] = (), **sampling: Unpack[SamplingSettings]
    ) -> str | list[str]:
        """Continues a text, or each of several in one batch; returns the continuations without the prompts.

        Args:
            prompt: the beginning of a document; several are decoded together.
            stop: string, or several, that end a continuation and are not part of it.
            **sampling: fields of `Sampling`: temperature (0 is greedy), top_k, top_p, max_tokens, seed.

        Raises ValueError for a prompt that leaves no room in Model.max_seq_len, and for a bad sampling setting.
        """
        prompts = [prompt] if isinstance(prompt, str) else prompt
        stops = (stop,) if isinstance(stop, str) else stop
        texts = self._generate(prompts, Sampling(**sampling), stop=stops)
        return texts[0] if isinstance(prompt, str) else texts

    def answer(
        self, question: str, *, history: Sequence[tuple[str, str]] = (), **sampling: Unpack[SamplingSettings]
    ) -> str:
        """Answers a question in the chat format of instruction tuning.

        Args:
            question: the user's turn.
            history: earlier (question, answer) turns of the conversation.
            **sampling: as in `generate`.

        Raises ValueError as `generate` does.
        """
        said = [text for turn in history for text in turn]
        messages = [Message(("user", "assistant")[n % 2], text) for n, text in enumerate([*said, question])]
        prompt = encode_prompt(self.tokenizer, messages)
        (text,) = self._generate([prompt], Sampling(**sampling), stop_ids=self.tokenizer.ends)
        return text.strip()

    def _generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        *,
        stop: Sequence[str] = (),
        stop_ids: Sequence[int] | None = None,
    ) -> list[str]:
        completions = generate(self.decoder, self.tokenizer, prompts, sampling, stop_ids=stop_ids, stop_strings=stop)
        return [completion.text for completion in completions]


def load(run: str | Path, *, step: int | None = None) -> Run:
    """Loads a run of `train.py` or `sft.py` onto one device.

    Args:
        run: the run's workdir.
        step: of the checkpoint; the latest by default.

    Raises:
        FileNotFoundError: there is no such run or checkpoint.
        ValueError: the checkpoint is damaged, or its tokenizer is another one.
    """
    loaded = load_decoder(Path(run), step=step)
    return Run(loaded.decoder, loaded.model, loaded.tokenizer, loaded.step)
