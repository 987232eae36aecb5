"""The training state, and the model on abstract shapes with the shardings of its parameters."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from mindllm_jax.model.config import Model
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.model.lora import AdapterParam, Lora
from mindllm_jax.model.nf4 import BLOCK, NF4, quantized
from mindllm_jax.parallel.sharding import Sharding, mesh_settings
from mindllm_jax.training.optimizer import roles_of

Params = dict[str, Any]


class TrainState(NamedTuple):
    """The arrays of a run. A checkpoint holds all but the frozen parameters. Trained ones and moments are float32."""

    step: jax.Array  # steps taken, skipped ones included
    skipped: jax.Array  # steps whose loss or gradient was not finite, and that changed nothing
    skipped_in_a_row: jax.Array  # of them, those since the last step that changed something
    params: Params  # those that a step changes
    opt_state: optax.OptState
    frozen: Params  # those that it only reads: the base of LoRA, and none otherwise


class AbstractModel(NamedTuple):
    """The model without its values: how to build it, and the shardings of its parameters."""

    definition: nnx.GraphDef[Decoder]
    params: nnx.State  # trained parameters as ShapeDtypeStructs
    shardings: Params  # NamedSharding of each
    roles: Any  # `optimizer.Role` of each
    sharding: Sharding
    width: int  # D
    lora: Lora | None  # the adapters' settings where they alone are trained
    frozen: nnx.State  # the other parameters, as ShapeDtypeStructs; matrices in NF4 as `nf4.NF4` of them
    frozen_shardings: Params
    base: nnx.State  # the same before they are quantized
    base_shardings: Params

    def decoder(self, params: Params, frozen: Params | None = None) -> Decoder:
        """Returns the decoder with these trained parameters and, for LoRA, the frozen ones."""
        return nnx.merge(self.definition, params, frozen or {})

    def held(self, restore: Callable[[Params], Params]) -> Params:
        """Returns the frozen parameters as a step reads them.

        restore: returns those of the base in these shapes, dtypes and shardings.
        """
        base = restore(placed(self.base, self.base_shardings))
        if self.frozen is self.base:
            return base
        return jax.jit(self.quantize, out_shardings=self.frozen_shardings)(base)

    def quantize(self, base: Params) -> Params:
        """Quantizes the matrices of the blocks among the base's parameters."""
        return self._of_matrices(quantized, base)

    def rounded(self, base: Params) -> Params:
        """Returns the base's parameters, in their dtypes, with the values of NF4 in the matrices of the blocks."""
        return self._of_matrices(lambda value, axis: quantized(value, axis).dequantized(value.dtype), base)

    def _of_matrices(self, change: Callable[[jax.Array, int], Any], base: Params) -> Params:
        """Returns the base's parameters, those of the blocks' matrices changed, given the axis of NF4's blocks."""
        axes = jax.tree.map(lambda variable: variable.replace(_block_axis(variable)), self.base, is_leaf=_is_variable)
        return jax.tree.map(lambda axis, value: change(value, axis) if axis else value, nnx.to_pure_dict(axes), base)


def abstract_model(model: Model, sharding: Sharding, lora: Lora | None = None) -> AbstractModel:
    """Describes the decoder on the mesh without allocating it.

    lora: the adapters, which then are the trained parameters. The matrices of the base are frozen in the compute dtype,
    the one in which they are multiplied anyway, or those of the blocks in NF4; its vectors stay float32.

    Raises ValueError for a size that the mesh cannot split, or NF4's blocks cannot.
    """
    decoder = nnx.eval_shape(lambda: Decoder(model, rngs=nnx.Rngs(0), sharding=sharding, lora=lora))
    definition, params, base = nnx.split(decoder, AdapterParam if lora else nnx.Param, ...)
    base = jax.tree.map(lambda variable: variable.replace(_frozen(variable, model)), base, is_leaf=_is_variable)
    shardings, base_shardings = (nnx.to_pure_dict(sharding.of_variables(part)) for part in (params, base))
    frozen, frozen_shardings = base, base_shardings
    if lora and lora.base == "nf4":
        frozen = jax.tree_util.tree_map_with_path(partial(_in_nf4, sharding), base, is_leaf=_is_variable)
        frozen_shardings = jax.tree.map(
            lambda held, at: NF4(at, at, held.axis) if isinstance(held, NF4) else at,
            nnx.to_pure_dict(frozen),
            base_shardings,
            is_leaf=lambda leaf: isinstance(leaf, NF4),
        )
    return AbstractModel(
        definition,
        params,
        shardings,
        roles_of(params),
        sharding,
        model.width,
        lora,
        frozen,
        frozen_shardings,
        base,
        base_shardings,
    )


def placed(params: nnx.State, shardings: Params) -> Params:
    """Returns shapes, dtypes and shardings of parameters."""
    return jax.tree.map(
        lambda leaf, at: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=at), nnx.to_pure_dict(params), shardings
    )


def _is_variable(leaf: object) -> bool:
    return isinstance(leaf, nnx.Variable)


def _block_axis(variable: nnx.Variable[jax.Array]) -> int:
    inputs = variable.get_metadata().get("inputs")  # which only the matrices of the blocks have
    return inputs - 1 - len(variable.get_metadata()["axes"]) if inputs else 0


def _in_nf4(
    sharding: Sharding, path: tuple[Any, ...], variable: nnx.Variable[jax.Array]
) -> nnx.Variable[jax.Array] | nnx.Variable[NF4]:
    """Returns a matrix of the blocks as NF4 of its shapes, and other parameters as they are."""
    axis = _block_axis(variable)
    if not axis:
        return variable
    size, name = variable.shape[axis], variable.get_metadata()["axes"][axis]
    parts = sharding.shards(name)
    if size % (BLOCK * parts):
        key = "/".join(str(getattr(part, "key", part)) for part in path)
        split = f" in {parts} parts, by {' and '.join(mesh_settings(name))}" if parts > 1 else ""
        raise ValueError(
            f"Lora.base = 'nf4': {key} has {size} inputs ({name}){split}, and NF4 takes them in blocks of {BLOCK}:"
            f" {'split it less, or ' if split else ''}take Lora.base = 'compute'"
        )
    return variable.replace(jax.eval_shape(partial(quantized, axis=axis), variable.get_value()))


def _frozen(variable: nnx.Variable[jax.Array], model: Model) -> jax.ShapeDtypeStruct:
    is_matrix = len(variable.get_metadata()["axes"]) > 1 and variable.get_metadata().get("decay", True)
    return jax.ShapeDtypeStruct(variable.shape, model.dtype if is_matrix else variable.dtype)


def state_shardings(abstract: AbstractModel, optimizer: optax.GradientTransformation) -> TrainState:
    """Returns the shardings of a TrainState: moments are sharded as their parameters, scalars are replicated.

    A moment is recognised by the names of its parameter, which end its path in opt_state.
    """
    replicated: Any = jax.NamedSharding(abstract.sharding.mesh, jax.P())
    params = nnx.to_pure_dict(abstract.params)
    by_name = {_names(path): sharding for path, sharding in jax.tree_util.tree_leaves_with_path(abstract.shardings)}

    def place(path: tuple[Any, ...], _: jax.ShapeDtypeStruct) -> Any:
        names = _names(path)
        endings = (names[start:] for start in range(len(names)))
        return next((by_name[ending] for ending in endings if ending in by_name), replicated)

    opt_state = jax.tree_util.tree_map_with_path(place, jax.eval_shape(optimizer.init, params))
    return TrainState(replicated, replicated, replicated, abstract.shardings, opt_state, abstract.frozen_shardings)


def _names(path: tuple[Any, ...]) -> tuple[str, ...]:
    return tuple(part.key for part in path if isinstance(part, jax.tree_util.DictKey))


def initial_params(model: Model, abstract: AbstractModel, seed: int) -> Params:
    """Returns fresh trained parameters, created in their shards: no host ever holds all of them."""

    def create() -> Params:
        decoder = Decoder(model, rngs=nnx.Rngs(seed), sharding=abstract.sharding, lora=abstract.lora)
        return nnx.to_pure_dict(nnx.state(decoder, AdapterParam if abstract.lora else nnx.Param))

    return jax.jit(create, out_shardings=abstract.shardings)()


def initial_state(
    params: Params,
    abstract: AbstractModel,
    optimizer: optax.GradientTransformation,
    frozen: Params | None = None,
) -> TrainState:
    """Returns the state of step 0 with the given trained parameters and, for LoRA, the frozen ones."""
    shardings = state_shardings(abstract, optimizer)
    # One buffer each, because a step donates them.
    step, skipped, in_a_row = (jax.device_put(jnp.zeros((), jnp.int32), shardings.step) for _ in range(3))
    opt_state = jax.jit(optimizer.init, out_shardings=shardings.opt_state)(params)
    return TrainState(step, skipped, in_a_row, params, opt_state, frozen or {})
