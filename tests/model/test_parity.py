"""The decoder against another team's: with the choices that make a Llama, transformers' Llama gives the same logits."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numerics import SEED

from mindllm_jax.model.config import Model
from mindllm_jax.model.decoder import Decoder

LLAMA = Model(
    vocab_size=101,
    layers=3,
    width=48,
    heads=6,
    kv_heads=2,
    head_dim=8,
    mlp_dim=80,
    max_seq_len=64,
    residual="pre_norm",
    mlp="swiglu",
    compute_dtype="float32",
)


def llama_weights(decoder: Decoder) -> dict[str, np.ndarray]:
    """The decoder's parameters under transformers' names, in its layout (outputs before inputs)."""
    assert decoder.final_norm is not None
    weights = {
        "model.embed_tokens.weight": decoder.embedding[...],
        "model.norm.weight": decoder.final_norm.scale[...],
        "lm_head.weight": decoder.head.T,
    }
    width = decoder.config.width
    blocks = nnx.to_pure_dict(nnx.state(decoder.blocks, nnx.Param))
    for layer in range(decoder.config.layers):
        block = jax.tree.map(lambda stacked, layer=layer: stacked[layer], blocks)
        weights |= {
            f"model.layers.{layer}.{name}.weight": value
            for name, value in {
                "self_attn.q_proj": block["attention"]["query"].reshape(width, -1).T,
                "self_attn.k_proj": block["attention"]["key"].reshape(width, -1).T,
                "self_attn.v_proj": block["attention"]["value"].reshape(width, -1).T,
                "self_attn.o_proj": block["attention"]["out"].reshape(-1, width).T,
                "mlp.gate_proj": block["mlp"]["gate"].T,
                "mlp.up_proj": block["mlp"]["up"].T,
                "mlp.down_proj": block["mlp"]["down"].T,
                "input_layernorm": block["attention_norm"]["scale"],
                "post_attention_layernorm": block["mlp_norm"]["scale"],
            }.items()
        }
    return {name: np.array(value) for name, value in weights.items()}


@pytest.mark.long
@pytest.mark.parametrize(
    "choices", [{}, {"kv_heads": 6, "rope_theta": 500_000.0}], ids=["grouped", "another RoPE base"]
)
def test_logits_are_those_of_llama(choices: dict) -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch's CPU build")
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    config = dataclasses.replace(LLAMA, **choices)
    decoder = Decoder(config, rngs=nnx.Rngs(SEED))
    peer = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=config.vocab_size,
            num_hidden_layers=config.layers,
            hidden_size=config.width,
            num_attention_heads=config.heads,
            num_key_value_heads=config.key_heads,
            head_dim=config.head_dim,
            intermediate_size=config.mlp_dim,
            max_position_embeddings=config.max_seq_len,
            rms_norm_eps=config.norm_epsilon,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            tie_word_embeddings=False,
        )
    )
    peer.load_state_dict({name: torch.from_numpy(value) for name, value in llama_weights(decoder).items()})
    tokens = np.random.default_rng(SEED).integers(0, config.vocab_size, (2, 40))
    with torch.no_grad():
        theirs = peer(input_ids=torch.from_numpy(tokens)).logits.numpy()
    ours = decoder.logits(decoder(jnp.asarray(tokens, jnp.int32)))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())
