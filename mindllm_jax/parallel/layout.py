"""The placement of a decoder's arrays on the mesh: the decoder's only view of several devices."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from mindllm_jax.kernels.flash_attention import balanced, natural
from mindllm_jax.parallel.embedding_lookup import lookup
from mindllm_jax.parallel.mesh import MeshAxes
from mindllm_jax.parallel.sharding import Sharding, mesh_settings
from mindllm_jax.shapes import FloatBTD, FloatVD, IntBT


@dataclass(frozen=True)
class Layout:
    """A sharding, or None for one device, where every method returns its argument."""

    sharding: Sharding | None = None

    @property
    def placement(self) -> Sharding:
        """The sharding of batches: the layout's, or one over a device of this process."""
        return self.sharding or Sharding(MeshAxes().build(jax.local_devices()[:1]))

    def active(self) -> AbstractContextManager[object]:
        """Makes the mesh current while a function is traced."""
        return self.sharding.active() if self.sharding else nullcontext()

    def attention_partition(self) -> PartitionSpec | None:
        """Returns the partition of queries [B T N H] for `flash_attention`; None on one device."""
        return self.sharding.partition("batch", "length", "heads", "head_dim") if self.sharding else None

    def lookup(self, table: FloatVD, tokens: IntBT, dtype: jnp.dtype) -> FloatBTD:
        """Returns the rows [B T D] in `dtype` of an embedding table [V D]."""
        return lookup(table, tokens, dtype, self.sharding)

    def constrain(self, x: FloatBTD) -> FloatBTD:
        """Constrains the sharding of x [B T D]."""
        return self.sharding.constrain(x, "batch", "length", "features") if self.sharding else x

    def to_attention_order(self, x: jax.Array) -> jax.Array:
        """Reorders x [B T ...] from token order into the balanced order that attention takes over split rows."""
        if self.sharding is None:
            return x
        with self.active():
            return balanced(x, self.sharding.spec("batch", "length", "features"))

    def to_token_order(self, x: jax.Array) -> jax.Array:
        """Reorders x [B T ...] from attention's order into token order."""
        if self.sharding is None:
            return x
        with self.active():
            return natural(x, self.sharding.spec("batch", "length", "features"))

    def require_whole_rows(self) -> None:
        """Raises ValueError on a mesh that splits rows: generation adds a token at a time, and prefixes are whole."""
        if self.sharding is not None and self.sharding.shards("length") > 1:
            settings = " and ".join(mesh_settings("length"))
            raise ValueError(f"neither generation nor prefixes can split rows over devices: set {settings} = 1")
