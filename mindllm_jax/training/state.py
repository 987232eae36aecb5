"""The training state, and the model on abstract shapes with the shardings of its parameters."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from mindllm_jax.model.config import Model
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.parallel.sharding import Sharding
from mindllm_jax.training.optimizer import roles_of

Params = dict[str, Any]


class TrainState(NamedTuple):
    """Everything that a step changes and a checkpoint holds. Parameters and moments are float32."""

    step: jax.Array  # steps taken, skipped ones included
    skipped: jax.Array  # steps whose loss or gradient was not finite, and that changed nothing
    skipped_in_a_row: jax.Array  # of them, those since the last step that changed something
    params: Params
    opt_state: optax.OptState


class AbstractModel(NamedTuple):
    """The model without its values: how to build it, and the shardings of its parameters."""

    definition: nnx.GraphDef[Decoder]
    params: nnx.State  # parameters as ShapeDtypeStructs
    shardings: Params  # NamedSharding of each parameter
    roles: Any  # `optimizer.Role` of each parameter
    sharding: Sharding

    def decoder(self, params: Params) -> Decoder:
        """Returns the decoder with these parameters."""
        return nnx.merge(self.definition, params)


def abstract_model(model: Model, sharding: Sharding) -> AbstractModel:
    """Describes the decoder on the mesh without allocating it. Raises ValueError for a size that the mesh cannot
    split."""
    decoder = nnx.eval_shape(lambda: Decoder(model, rngs=nnx.Rngs(0), sharding=sharding))
    definition, params = nnx.split(decoder, nnx.Param)
    shardings = nnx.to_pure_dict(sharding.of_variables(params))
    return AbstractModel(definition, params, shardings, roles_of(params), sharding)


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
    return TrainState(replicated, replicated, replicated, abstract.shardings, opt_state)


def _names(path: tuple[Any, ...]) -> tuple[str, ...]:
    return tuple(part.key for part in path if isinstance(part, jax.tree_util.DictKey))


def initial_params(model: Model, abstract: AbstractModel, seed: int) -> Params:
    """Returns fresh parameters, created in their shards: no host ever holds all of them."""

    def create() -> Params:
        decoder = Decoder(model, rngs=nnx.Rngs(seed), sharding=abstract.sharding)
        return nnx.to_pure_dict(nnx.state(decoder, nnx.Param))

    return jax.jit(create, out_shardings=abstract.shardings)()


def initial_state(params: Params, abstract: AbstractModel, optimizer: optax.GradientTransformation) -> TrainState:
    """Returns the state of step 0 with the given parameters."""
    shardings = state_shardings(abstract, optimizer)
    # One buffer each, because a step donates them.
    step, skipped, in_a_row = (jax.device_put(jnp.zeros((), jnp.int32), shardings.step) for _ in range(3))
    opt_state = jax.jit(optimizer.init, out_shardings=shardings.opt_state)(params)
    return TrainState(step, skipped, in_a_row, params, opt_state)
