"""The training step under jit: loss, gradients, update."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mindllm_jax.batching.global_batches import Batch
from mindllm_jax.kernels.linear_cross_entropy import LossSums, linear_cross_entropy
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.parallel.compiler_options import check_compiler_options
from mindllm_jax.training.state import AbstractModel, Params, TrainState, state_shardings


class Metrics(NamedTuple):
    """Scalars of one step, on the device until they are logged."""

    loss: jax.Array  # weighted mean over the targets, z-loss included
    accuracy: jax.Array  # weighted share of the targets that were the most probable token
    gradient_norm: jax.Array
    skipped: jax.Array  # steps skipped so far
    skipped_in_a_row: jax.Array  # of them, those since the last step that changed something


def loss_sums(decoder: Decoder, batch: Batch, z_loss: float = 0.0, noise: jax.Array | None = None) -> LossSums:
    """Returns the weighted sum of the losses [B T], the sum of weights and the weighted count of correct targets.

    noise: [B T D], added to the embeddings.
    """
    tokens, targets, weights, segment_ids, positions = map(jnp.asarray, batch)
    hidden = decoder(tokens, segment_ids=segment_ids, positions=positions, noise=noise)
    sharding, partition = decoder.layout.sharding, None
    if sharding and sharding.mesh.size > 1:
        partition = (sharding.spec("batch", "length", "features"), sharding.spec("width", "vocab"))
    with sharding.active() if sharding else nullcontext():
        return linear_cross_entropy(hidden, decoder.head, targets, weights, z_loss=z_loss, partition=partition)


def make_step(
    abstract: AbstractModel,
    optimizer: optax.GradientTransformation,
    *,
    grad_accum_steps: int = 1,
    z_loss: float = 0.0,
    embedding_noise: float = 0.0,
    noise_seed: int = 0,
    compiler_options: dict[str, bool | int | str] | None = None,
) -> Any:
    """Returns the training step under jit: (TrainState, Batch) to (TrainState, Metrics), donating the old state.

    The batch [B T] is split into `grad_accum_steps` micro-batches, whose gradients are summed in float32; over devices
    those of the blocks' matrices are summed in the dtype of `Model.gradient_sums`, all others in float32. Losses are
    divided by the weights of the global batch, so accumulation and padding change only the order of summation. A step
    whose loss or gradient norm is not finite changes neither parameters nor opt_state, and is counted.

    embedding_noise: NEFTune's alpha (Jain et al. 2023, arXiv 2310.05914): the embeddings of a row get noise that is
    uniform within alpha / sqrt(T D), drawn by `noise_seed` and the step.

    Raises ValueError that names a compiler option which the mesh's compiler does not accept.
    """
    check_compiler_options(compiler_options or {}, abstract.sharding.mesh)
    width = abstract.width

    def noise_of(key: jax.Array | None, batch: Batch) -> jax.Array | None:
        if key is None:
            return None
        shape = (*batch.tokens.shape, width)
        bound = embedding_noise / math.sqrt(shape[1] * width)
        return jax.random.uniform(key, shape, jnp.float32, -bound, bound)

    def gradients(params: Params, frozen: Params, batch: Batch, key: jax.Array | None) -> tuple[LossSums, Params]:
        def loss(params: Params) -> tuple[jax.Array, LossSums]:
            sums = loss_sums(abstract.decoder(params, frozen), batch, z_loss, noise_of(key, batch))
            return sums.loss, sums

        grads, sums = jax.grad(loss, has_aux=True)(params)
        return sums, grads

    def accumulate_gradients(
        params: Params, frozen: Params, batch: Batch, key: jax.Array | None
    ) -> tuple[LossSums, Params]:
        if grad_accum_steps == 1:
            return gradients(params, frozen, batch, key)

        def split(x: jax.Array) -> jax.Array:
            # Rows stay on their device: each micro-batch takes every grad_accum_steps-th row.
            x = x.reshape(x.shape[0] // grad_accum_steps, grad_accum_steps, *x.shape[1:]).swapaxes(0, 1)
            return jax.lax.with_sharding_constraint(x, jax.NamedSharding(abstract.sharding.mesh, micro_batch))

        micro_batch = jax.P(None, *abstract.sharding.spec("batch", "length"))

        def add(
            total: tuple[LossSums, Params], part: tuple[Batch, jax.Array | None]
        ) -> tuple[tuple[LossSums, Params], None]:
            return jax.tree.map(jnp.add, total, gradients(params, frozen, *part)), None

        shapes = jax.eval_shape(gradients, params, frozen, batch, key)
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        keys = None if key is None else jax.random.split(key, grad_accum_steps)
        return jax.lax.scan(add, zeros, (jax.tree.map(split, batch), keys))[0]

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        with abstract.sharding.active():  # the backward pass of a kernel is traced in this block
            key = jax.random.fold_in(jax.random.key(noise_seed), state.step) if embedding_noise else None
            sums, grads = accumulate_gradients(state.params, state.frozen, batch, key)
        # Rows of padding alone have none.
        weight = jnp.where(sums.weight > 0, sums.weight, 1.0)
        grads = jax.tree.map(lambda g: g / weight.astype(g.dtype), grads)
        norm = optax.global_norm(grads)
        finite = jnp.isfinite(norm) & jnp.isfinite(sums.loss)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)

        def keep(new: jax.Array, old: jax.Array) -> jax.Array:
            return jnp.where(finite, new, old)

        skipped = state.skipped + jnp.where(finite, 0, 1)
        in_a_row = jnp.where(finite, 0, state.skipped_in_a_row + 1)
        new = TrainState(
            state.step + 1,
            skipped,
            in_a_row,
            jax.tree.map(keep, params, state.params),
            jax.tree.map(keep, opt_state, state.opt_state),
            state.frozen,
        )
        return new, Metrics(sums.loss / weight, sums.correct / weight, norm, skipped, in_a_row)

    shardings = state_shardings(abstract, optimizer)
    rows: Any = abstract.sharding.named("batch", "length")
    return jax.jit(
        step,
        donate_argnums=0,
        in_shardings=(shardings, Batch(rows, rows, rows, rows, rows)),
        out_shardings=(shardings, None),
        compiler_options=compiler_options or None,
    )
