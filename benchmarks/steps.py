"""A training step of this project, and one of transformers with PyTorch, on the same shapes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mindllm_jax.model.config import Model


def ours(model: Model, rows: int, grad_accum_steps: int = 1) -> Callable[[], Any]:
    """Returns a step over all devices with parameters split over them; it blocks until it is done."""
    import jax
    import numpy as np

    from mindllm_jax.parallel.mesh import MeshAxes
    from mindllm_jax.parallel.sharding import Sharding
    from mindllm_jax.rows import Batch
    from mindllm_jax.training.optimizer import Optimizer
    from mindllm_jax.training.state import abstract_model, initial_params, initial_state
    from mindllm_jax.training.step import make_step

    abstract = abstract_model(model, Sharding(MeshAxes(data=1, fsdp=-1).build()))
    optimizer = Optimizer().build(1000, abstract.roles)
    state = [initial_state(initial_params(model, abstract, 0), abstract, optimizer)]
    compiled = make_step(abstract, optimizer, grad_accum_steps=grad_accum_steps)
    shape = (rows, model.max_seq_len)
    tokens = np.random.default_rng(0).integers(0, model.vocab_size, (rows, model.max_seq_len + 1), dtype=np.int32)
    segment_ids = np.ones(shape, np.int32)
    positions = np.broadcast_to(np.arange(model.max_seq_len, dtype=np.int32), shape)
    batch = Batch(tokens[:, :-1], tokens[:, 1:], segment_ids.astype(np.float32), segment_ids, positions)
    batch = jax.device_put(batch, abstract.sharding.named("batch", "length"))

    def step() -> None:
        state[0], metrics = compiled(state[0], batch)
        jax.block_until_ready((state[0], metrics))

    return step


def peer(
    model: Model, rows: int, *, device: str, grad_accum_steps: int = 1, compiled: bool = False
) -> Callable[[], Any]:
    """Returns a step of LlamaForCausalLM of the same shape with sdpa attention and fused AdamW; bfloat16 is autocast.

    grad_accum_steps: micro-batches of a step. compiled: through torch.compile.
    """
    import torch
    from transformers import AttentionInterface, LlamaConfig, LlamaForCausalLM
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    # Under the name "sdpa" a compiled model gets a dense mask, which excludes PyTorch's flash attention. For an unknown
    # name transformers builds no mask, and calls the same function with is_causal.
    AttentionInterface.register("sdpa_causal", sdpa_attention_forward)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=model.vocab_size,
        num_hidden_layers=model.layers,
        hidden_size=model.width,
        num_attention_heads=model.heads,
        num_key_value_heads=model.key_heads,
        head_dim=model.head_dim,
        intermediate_size=model.mlp_dim,
        max_position_embeddings=model.max_seq_len,
        tie_word_embeddings=model.tied,
        attn_implementation="sdpa_causal",  # pyright: ignore[reportCallIssue]  known to the base class alone
        use_cache=False,
    )
    with torch.device(device):
        network: Any = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    run = torch.compile(network) if compiled else network
    tokens = torch.randint(0, model.vocab_size, (rows, model.max_seq_len), device=device)

    def step() -> None:
        for part in tokens.chunk(grad_accum_steps):
            with torch.autocast(device, dtype=torch.bfloat16, enabled=model.compute_dtype == "bfloat16"):
                loss = run(input_ids=part, labels=part).loss
            (loss / grad_accum_steps).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def median_seconds(step: Callable[[], Any], seconds: float, warm: int = 1) -> float:
    """Returns the median time of the steps that fit into this many seconds, at least one, after `warm` others."""
    for _ in range(warm):
        step()
    # At least one: a step of the peer in bfloat16 takes minutes on a processor without bfloat16 products.
    times, until = [], time.perf_counter() + seconds
    while not times or time.perf_counter() < until:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
