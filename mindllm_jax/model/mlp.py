"""The feed-forward layer of a block."""

from __future__ import annotations

import jax
from flax import nnx

from mindllm_jax.model.config import Model
from mindllm_jax.model.initialisation import bias, matrix
from mindllm_jax.model.linear import GradientSums, add_bias
from mindllm_jax.model.lora import Lora, adapted_matmul, adapter
from mindllm_jax.model.residual import residual_scheme
from mindllm_jax.shapes import FloatBTD


class MLP(nnx.Module):
    """GeGLU or SwiGLU (Shazeer 2020), or two layers with GELU, from [B T D] over [B T F] to [B T D].

    GELU is the tanh approximation (GPT-2's "gelu_new"). The gate starts at gain 1 under every residual scheme: DeepNorm
    scales two feed-forward matrices, and scaling all three would shrink the branch by beta^3.
    """

    def __init__(self, config: Model, *, rngs: nnx.Rngs, lora: Lora | None = None):
        width, hidden, scheme = config.width, config.mlp_dim, residual_scheme(config)
        into, out = ("width", "mlp_dim"), ("mlp_dim", "width")
        self.up = matrix(config, rngs, into, (width, hidden), inputs=1, gain=scheme.inner)
        self.down = matrix(config, rngs, out, (hidden, width), inputs=1, gain=scheme.outer)
        self.gate = None if config.mlp == "gelu" else matrix(config, rngs, into, (width, hidden), inputs=1)
        self.up_bias = bias(config, "mlp", ("mlp_dim",), (hidden,))
        self.gate_bias = None if config.mlp == "gelu" else bias(config, "mlp", ("mlp_dim",), (hidden,))
        self.down_bias = bias(config, "mlp", ("features",), (width,))
        self.up_adapter = adapter(config, lora, "up", self.up, inputs=1, rngs=rngs)
        self.gate_adapter = adapter(config, lora, "gate", self.gate, inputs=1, rngs=rngs)
        self.down_adapter = adapter(config, lora, "down", self.down, inputs=1, rngs=rngs)
        self.gradient_sums: GradientSums = config.gradient_sums
        self.activation = jax.nn.silu if config.mlp == "swiglu" else jax.nn.gelu

    def __call__(self, x: FloatBTD) -> FloatBTD:
        sums = self.gradient_sums
        up = add_bias(adapted_matmul(x, self.up[...], self.up_adapter, gradient_sums=sums), self.up_bias)
        gate = None
        if self.gate is not None:
            gate = adapted_matmul(x, self.gate[...], self.gate_adapter, gradient_sums=sums)
            gate = add_bias(gate, self.gate_bias)

        # Cheap to recompute: the backward pass keeps `up` and `gate`, not the six tensors between them and `down`.
        @jax.checkpoint
        def out(up: jax.Array, gate: jax.Array | None, down: jax.Array) -> jax.Array:
            hidden = self.activation(up) if gate is None else self.activation(gate) * up
            return adapted_matmul(hidden, down, self.down_adapter, gradient_sums=sums)

        return add_bias(out(up, gate, self.down[...]), self.down_bias)
