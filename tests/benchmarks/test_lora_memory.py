"""Memory of a step of LoRA at the 1.3B shape, as this machine's compiler lays it out."""

import importlib.util
from pathlib import Path

import jax
import pytest

from mindllm_jax.model.lora import Lora

BENCHMARK = Path(__file__).parents[2] / "benchmarks/lora_memory.py"


@pytest.mark.slow
def test_lora_takes_a_third_of_full_tuning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BENCHMARK.parents[1])
    spec = importlib.util.spec_from_file_location("lora_memory", BENCHMARK)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shape = {"rows": 4, "length": 1024, "remat": "full"}
    settings = (None, Lora(rank=16), Lora(rank=16, base="nf4"))
    full, lora, qlora = (module.step_memory(lora, jax.devices()[:1], **shape) for lora in settings)
    assert lora["state"] < 0.2 * full["state"], "neither moments nor gradients, and the base in bfloat16"
    assert lora["total"] < 0.35 * full["total"], (full, lora)
    assert qlora["state"] < 0.5 * lora["state"], "matrices of the blocks in 4.5 bits for 16"
    assert qlora["total"] - qlora["state"] < 1.2 * (lora["total"] - lora["state"]), (
        "the whole base is never dequantized"
    )
