"""How a decoder's arrays lie on the mesh: all that its code has to know of several devices."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from mindllm_jax.kernels.flash_attention import balanced, natural
from mindllm_jax.parallel.embedding_lookup import lookup
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.parallel.sharding import Sharding


@dataclass(frozen=True)
class Layout:
    """A mesh with its rules, or one device: without a sharding every method gives its argument back."""

    sharding: Sharding | None = None

    @property
    def placement(self) -> Sharding:
        """Where rows are placed: by the sharding, or on one device of this process where there is none."""
        return self.sharding or Sharding(MeshAxes().build(jax.local_devices()[:1]))

    @property
    def splits_rows(self) -> bool:
        """Whether a row lies on several devices."""
        return self.sharding is not None and self.sharding.shards("length") > 1

    def mesh(self) -> AbstractContextManager[object]:
        """Makes the mesh the current one while a function is traced."""
        return self.sharding.active() if self.sharding else nullcontext()

    def heads(self) -> PartitionSpec | None:
        """The partition of [B T N H] that attention is told; None on one device."""
        return self.sharding.partition("batch", "length", "heads", "head_dim") if self.sharding else None

    def rows(self, table: jax.Array, tokens: jax.Array, dtype: jnp.dtype) -> jax.Array:
        """Rows [B T D] in `dtype` of a table [V D] at tokens int32 [B T]; see `embedding.lookup`."""
        return lookup(table, tokens, dtype, self.sharding)

    def constrain(self, x: jax.Array) -> jax.Array:
        """Tells the compiler how x [B T D] is split."""
        return self.sharding.constrain(x, "batch", "length", "features") if self.sharding else x

    def enter(self, x: jax.Array) -> jax.Array:
        """Brings x [B T ...] from token order into the one that attention wants where the mesh splits rows."""
        if self.sharding is None:
            return x
        with self.mesh():
            return balanced(x, self.sharding.spec("batch", "length", "features"))

    def leave(self, x: jax.Array) -> jax.Array:
        """The inverse of `enter`."""
        if self.sharding is None:
            return x
        with self.mesh():
            return natural(x, self.sharding.spec("batch", "length", "features"))
