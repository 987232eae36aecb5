"""What is read from compiled programs, against programs whose collectives are known."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from mindllm_jax.planning import hlo


def compiled(function: Any, *specs: PartitionSpec) -> hlo.Program:
    """A function of 1,024 x 512 float32 arrays over a mesh of 2 x 4 devices."""
    mesh = jax.make_mesh((2, 4), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
    arrays = [jax.ShapeDtypeStruct((1024, 512), jnp.float32, sharding=NamedSharding(mesh, spec)) for spec in specs]
    with jax.set_mesh(mesh):
        text = jax.jit(function).lower(*arrays).compile().as_text()
    assert text is not None
    return hlo.read(text)


def test_collectives_with_bytes_groups_and_loops() -> None:
    def body(x: jax.Array) -> jax.Array:
        def once(total: jax.Array, _: None) -> tuple[jax.Array, None]:
            total = jnp.sin(jax.lax.all_gather(total, "b", axis=0, tiled=True)[: total.shape[0]] + 1)
            return total, None

        x = jax.lax.scan(once, x, None, length=7)[0]
        return jax.lax.psum(x, ("a", "b"))

    def function(x: jax.Array) -> jax.Array:
        spec = PartitionSpec(("a", "b"))
        return jax.shard_map(body, in_specs=spec, out_specs=PartitionSpec(), check_vma=False)(x)

    gather, reduce = sorted(compiled(function, PartitionSpec(("a", "b"))).collectives, key=lambda c: c.kind)
    local = 4 * 1024 * 512 / 8
    assert (gather.kind, gather.times, gather.bytes, gather.group) == ("all-gather", 7, 4 * local, (0, 1, 2, 3))
    assert (reduce.kind, reduce.times, reduce.bytes, len(reduce.group)) == ("all-reduce", 1, local, 8)


def test_memory_traffic_counts_a_loop_as_often_as_it_runs() -> None:
    def traffic(length: int) -> float:
        def function(x: jax.Array) -> jax.Array:
            return jax.lax.fori_loop(0, length, lambda _, y: jnp.sin(y @ y.T) @ y, x)

        return compiled(function, PartitionSpec()).memory_traffic

    assert traffic(30) == pytest.approx(10 * traffic(3), rel=0.1)


@pytest.mark.parametrize(
    ("attributes", "group"),
    [
        ("channel_id=1, replica_groups={{0,2},{1,3}}, to_apply=%add", (0, 2)),
        ("channel_id=1, replica_groups=[4,2]<=[8], dimensions={0}", (0, 1)),
        ("channel_id=1, replica_groups=[4,2]<=[2,4]T(1,0), dimensions={0}", (0, 4)),
        ("replica_groups=mesh['x'=4,'y'=2] {'y'}, dimensions={1}", (0, 1)),
        ("replica_groups=mesh['x'=4,'y'=2] {'x'}, dimensions={1}", (0, 2, 4, 6)),
        ("replica_groups=mesh['x'=4,'y'=2], device_ids=([2,4]T(1,0)) {'x'}, dimensions={1}", (0, 1, 2, 3)),
        ("channel_id=3, source_target_pairs={{0,0},{1,2}}", (1, 2)),
    ],
)
def test_every_way_of_writing_groups(attributes: str, group: tuple[int, ...]) -> None:
    assert hlo._group(attributes) == group


FUSED = """
HloModule step
%all-reduce-scatter.4.clone (input: bf16[64,128]) -> bf16[64,8] {
  %input = bf16[64,128]{0,1} parameter(0)
  %all-reduce.1 = bf16[64,128]{0,1} all-reduce(%input), channel_id=35, replica_groups={{0,1,2,3},{4,5,6,7}}
  ROOT %slice = bf16[64,8]{0,1} dynamic-slice(%all-reduce.1), dynamic_slice_sizes={64,8}
}
%fused_computation.5 (p: bf16[1,128]) -> bf16[4,128] {
  %p = bf16[1,128]{1,0} parameter(0)
  ROOT %all-gather.1 = bf16[4,128]{1,0} all-gather(%p), channel_id=67, replica_groups={{0,1,2,3},{4,5,6,7}}
}
%async_collective_fusion.6 (p: bf16[1,128], q: bf16[4,128]) -> (bf16[4,128], bf16[4,128]) {
  %p = bf16[1,128]{1,0} parameter(0)
  %q = bf16[4,128]{1,0} parameter(1)
  %all-gather.2 = bf16[4,128]{1,0} all-gather(%p), channel_id=67, replica_groups={{0,1,2,3},{4,5,6,7}}
  ROOT %both = (bf16[4,128]{1,0}, bf16[4,128]{1,0}) tuple(%all-gather.2, %q)
}
ENTRY %main (x: bf16[64,128], y: bf16[1,128]) -> bf16[64,8] {
  %x = bf16[64,128]{0,1} parameter(0)
  %y = bf16[1,128]{1,0} parameter(1)
  %first = bf16[4,128]{1,0} fusion(%y), kind=kCustom, calls=%fused_computation.5
  %then = (bf16[4,128]{1,0}, bf16[4,128]{1,0}) fusion(%y, %first), kind=kCustom, calls=%async_collective_fusion.6
  %k = bf16[8,128]{1,0} all-gather(%y), channel_id=1, replica_groups={{0,1,2,3,4,5,6,7}}, dimensions={0}
  %v = bf16[8,128]{1,0} all-gather(%y), channel_id=1, replica_groups={{0,1,2,3,4,5,6,7}}, dimensions={0}
  ROOT %out = bf16[64,8]{0,1} fusion(%x), kind=kCustom, calls=%all-reduce-scatter.4.clone
}
"""
COMBINED = """
HloModule step
ENTRY %main (a: f32[4], b: f32[8]) -> f32[4] {
  %a = f32[4]{0} parameter(0)
  %b = f32[8]{0} parameter(1)
  %s = (f32[4]{0}, f32[8]{0}) all-reduce-start(%a, %b), channel_id=1, replica_groups={{0,1}}, to_apply=%add
  %sd = (f32[4]{0}, f32[8]{0}) all-reduce-done(%s)
  %g = ((f32[4]{0}, f32[8]{0}), (f32[8]{0}, f32[16]{0})) all-gather-start(%a, %b), channel_id=2, replica_groups={{0,1}}
  %gd = (f32[8]{0}, f32[16]{0}) all-gather-done(%g)
  ROOT %out = f32[4]{0} get-tuple-element(%sd), index=0
}
"""


def test_collectives_that_were_combined_count_all_their_arrays() -> None:
    gather, total = sorted(hlo.read(COMBINED).collectives, key=lambda c: c.kind)
    assert (gather.kind, gather.bytes, gather.overlapped) == ("all-gather", 4 * 24, True)
    assert (total.kind, total.bytes, total.overlapped) == ("all-reduce", 4 * 12, True)


def test_a_tpu_writes_reduce_scatters_and_overlapped_gathers_as_fusions() -> None:
    *alone, gather, scatter = sorted(hlo.read(FUSED).collectives, key=lambda c: (c.kind, c.overlapped))
    assert [c.bytes for c in alone] == [8 * 128 * 2] * 2, "a channel is shared by what shard_map makes"
    assert gather == hlo.Collective("all-gather", 4 * 128 * 2, (0, 1, 2, 3), 1, overlapped=True)
    assert scatter == hlo.Collective("reduce-scatter", 64 * 128 * 2, (0, 1, 2, 3), 1, overlapped=False)


def test_what_is_no_program_is_refused() -> None:
    with pytest.raises(ValueError, match="no ENTRY computation"):
        hlo.read("module @jit_step {}")
