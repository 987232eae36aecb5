"""A real network: SmolLM2-135M-Instruct from its GGUF file, against transformers on the same dequantized weights."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from interop_models import torch, transformers

import mindllm_jax
from mindllm_jax.generation.engine import generate
from mindllm_jax.generation.sampling import Sampling
from mindllm_jax.interop.conformance_texts import TEXTS
from mindllm_jax.interop.import_run import import_run

pytestmark = pytest.mark.slow

PROMPTS = (
    *(
        "A glacier is",
        "The capital of France is",
        "def fibonacci(n):",
        "Water boils at",
        "Once upon a time",
        "The moon",
    ),
    *("To make bread, you need", "My favourite book is", "In 1969,", "Photosynthesis is", "The opposite of hot is"),
    *("Dear Sir or Madam,", "import numpy as np\n", "1, 2, 3, 4,", "The heart pumps", "A prime number is"),
    *("She opened the door and", "The three primary colours are", "Gravity", "冰川是"),
)


@pytest.fixture(scope="module")
def run(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> mindllm_jax.Run:
    workdir = tmp_path_factory.mktemp("smollm2") / "run"
    import_run(smollm2, workdir, {})
    return mindllm_jax.load(workdir)


@pytest.fixture(scope="module")
def peer(smollm2: Path) -> Any:
    """transformers on the weights as the library gguf dequantizes them, by the names that it lists."""
    gguf = pytest.importorskip("gguf", reason="gguf (the extra `interop`) is not installed")
    config = transformers.LlamaConfig(
        vocab_size=49152, hidden_size=576, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3,
        intermediate_size=1536, max_position_embeddings=8192, rms_norm_eps=1e-5, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 30)
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(smollm2).tensors}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            tensor = stored[names.get_name(name, (".weight",))]
            value = torch.from_numpy(np.array(gguf.dequantize(tensor.data, tensor.tensor_type)))
            if "q_proj" in name or "k_proj" in name:  # 64 rows of a head: llama.cpp interleaves its halves
                value = value.view(-1, 32, 2, 576).transpose(1, 2)
            parameter.copy_(value.reshape(parameter.shape))
    return model


def test_logits(run: mindllm_jax.Run, peer: Any) -> None:
    forward = nnx.jit(lambda decoder, ids: decoder.logits(decoder(ids)))
    for text in TEXTS:
        ids = run.tokenizer.encode(text)
        with torch.inference_mode():
            theirs = peer(torch.from_numpy(ids.astype(np.int64))[None]).logits.numpy()
        np.testing.assert_allclose(forward(run.decoder, jnp.asarray(ids[None])), theirs, atol=1e-3, rtol=0)


def test_greedy_generation(run: mindllm_jax.Run, peer: Any) -> None:
    """64 tokens on 20 prompts, but for near-ties: the peer's two best logits differ by less than 1e-4 there."""
    prompts = [run.tokenizer.encode(prompt) for prompt in PROMPTS]
    ours = generate(run.decoder, run.tokenizer, prompts, Sampling(temperature=0, max_tokens=64), stop_ids=[])
    ties = 0
    for prompt, mine in zip(prompts, ours, strict=True):
        ids = torch.from_numpy(prompt.astype(np.int64))[None]
        out = peer.generate(
            ids, max_new_tokens=64, do_sample=False, eos_token_id=None, output_logits=True, return_dict_in_generate=True
        )
        theirs = out.sequences[0, ids.shape[1] :].tolist()
        different = next(
            (n for n, pair in enumerate(zip(mine.tokens, theirs, strict=True)) if pair[0] != pair[1]), None
        )
        if different is not None:
            best = out.logits[different][0].topk(2).values
            assert best[0] - best[1] < 1e-4, run.tokenizer.decode(prompt)
            ties += 1
    assert ties <= 1
