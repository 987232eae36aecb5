"""Steps of TRL's SFTTrainer on encoded conversations, with a clock around each."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from mindllm_jax.batching.chat_format import EncodedConversation
from mindllm_jax.interop.llama import LLAMA
from mindllm_jax.model.config import Model


class TrlSteps:
    """Trains a Llama of the same shape from random weights, with TRL's best-fit packing or padded.

    The dtype is float32 and nothing is rematerialised, as in our steps; everything else is TRL's default.
    """

    def __init__(self, model: Model, rows: Sequence[EncodedConversation], batch: int, length: int, *, packing: bool):
        import torch
        import transformers
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer

        torch.manual_seed(0)
        config = transformers.LlamaConfig(**{**LLAMA.config(model), "tie_word_embeddings": model.tied})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._trainer: Any = SFTTrainer(
                model=transformers.LlamaForCausalLM(config),
                args=SFTConfig(
                    output_dir=tempfile.mkdtemp(),
                    packing=packing,
                    max_length=length,
                    per_device_train_batch_size=batch,
                    gradient_checkpointing=False,
                    bf16=False,
                    use_cpu=True,
                    report_to=[],
                    save_strategy="no",
                    logging_strategy="no",
                    disable_tqdm=True,
                ),
                train_dataset=Dataset.from_list(
                    [
                        {"input_ids": row.ids.tolist(), "assistant_masks": row.loss_mask.astype(int).tolist()}
                        for row in rows
                    ]
                ),
                processing_class=_tokenizer(transformers),
            )
        self._counts: list[int] = []
        self._ends: list[float] = []
        collate = self._trainer.data_collator

        def counted(examples: list[Any]) -> Any:
            made = collate(examples)
            mask = made.get("attention_mask")
            self._counts.append(int(made["input_ids"].numel() if mask is None else mask.sum()))
            return made

        self._trainer.data_collator = counted
        ends = self._ends

        class Clock(transformers.TrainerCallback):
            def on_step_end(self, *args: Any, **settings: Any) -> None:
                ends.append(time.perf_counter())

        self._trainer.add_callback(Clock())

    def rate(self, steps: int) -> float:
        """Takes steps + 1 steps and returns tokens/s of all but the first; padding is not counted."""
        self._counts.clear()
        self._ends.clear()
        self._trainer.args.max_steps = steps + 1
        self._trainer.train()
        tokens = np.sum(self._counts[1 : steps + 1])
        return float(tokens / (self._ends[-1] - self._ends[0]))


def _tokenizer(transformers: Any) -> Any:
    """A tokenizer that TRL asks for the id of padding alone: the rows are encoded already."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    empty = Tokenizer(WordLevel({"<pad>": 0, "<eos>": 1}, unk_token="<pad>"))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=empty, pad_token="<pad>", eos_token="<eos>")
