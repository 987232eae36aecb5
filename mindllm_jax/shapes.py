"""Array types by their axes: the ten letters that docstrings, comments and einsum strings use.

| letter | axis | setting |
|---|---|---|
| B | batch: rows | `Loop.global_batch_size`, over all devices |
| T | tokens of a row; queries of attention | `Mixture.sequence_length` |
| S | keys and values of attention | |
| N | query heads | `Model.heads` |
| K | key-value heads | `Model.kv_heads` |
| H | head dimension | `Model.head_dim` |
| D | model width | `Model.width` |
| F | feed-forward width | `Model.mlp_dim` |
| V | vocabulary | `Model.vocab_size` |
| L | layers | `Model.layers` |

A type is named by its dtype and its axes: FloatBTD is an array [B T D] of floats of any width. The types are read by
people and type checkers; nothing checks them at run time.
"""

from __future__ import annotations

from jaxtyping import Array, Float, Int, Key

KeyB = Key[Array, "B"]
IntBT = Int[Array, "B T"]
IntB = Int[Array, "B"]
IntBS = Int[Array, "B S"]
FloatBV = Float[Array, "B V"]
FloatBTD = Float[Array, "B T D"]
FloatBTV = Float[Array, "B T V"]
FloatBTN = Float[Array, "B T N"]
FloatBTNH = Float[Array, "B T N H"]
FloatBTKH = Float[Array, "B T K H"]
FloatBSKH = Float[Array, "B S K H"]
FloatBKSH = Float[Array, "B K S H"]
FloatVD = Float[Array, "V D"]
FloatDV = Float[Array, "D V"]
