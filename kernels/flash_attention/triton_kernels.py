"""Attention kernels in Triton: plain `@triton.jit` functions that jax-triton or torch can launch.

Tensors are as in `api.py`, contiguous: q, out and their gradients [B T N H], k and v [B S K H], log-sum-exp [B T N] as
an output, [B N T] as an input like shift, segment ids [B T] and [B S]. `tiles` has, for each row and tile, the range of
tiles to visit on the other side, as `visits.bounds` returns it: [B tiles 4] with start, whole_start, whole_stop, stop.
Between the second and the third no mask is needed, and no position is behind the end of either side. Exponentials are
to the base 2. Sums run in a fixed order, without atomics.

Names in capitals are compile-time constants. N and K are the heads, H the head dimension, D the same rounded
up to a power of 2; Q and S are the positions of a tile.
"""

import triton
import triton.language as tl

from mindllm_jax.kernels.flash_attention import problem

LOG2_E = tl.constexpr(1.4426950408889634)
FORBIDDEN = tl.constexpr(problem.FORBIDDEN)
LEAST_MAXIMUM = tl.constexpr(problem.LEAST_MAXIMUM)


@triton.jit
def _load(base, positions, columns, length, stride, H: tl.constexpr, D: tl.constexpr, WHOLE: tl.constexpr):
    """Rows of a tensor, zero behind its end: [positions, D]. WHOLE: all positions lie before the end."""
    pointers = base + positions[:, None] * stride + columns[None, :]
    if WHOLE and D == H:
        rows = tl.load(pointers)
    elif D == H:
        rows = tl.load(pointers, mask=(positions < length)[:, None], other=0.0)
    else:
        rows = tl.load(pointers, mask=(positions < length)[:, None] & (columns < H)[None, :], other=0.0)
    return rows


@triton.jit
def _load_numbers(base, positions, length, other, WHOLE: tl.constexpr):
    """A number for each position, `other` behind the end."""
    if WHOLE:
        numbers = tl.load(base + positions)
    else:
        numbers = tl.load(base + positions, mask=positions < length, other=other)
    return numbers


@triton.jit
def _store(base, x, positions, columns, length, stride, H: tl.constexpr):
    inside = (positions < length)[:, None] & (columns < H)[None, :]
    tl.store(base + positions[:, None] * stride + columns[None, :], x, mask=inside)


@triton.jit
def _ids(segments, row, positions, length, SEGMENTS: tl.constexpr):
    """The documents of positions, 0 behind the end; without segments nothing is read."""
    return tl.load(segments + row * length + positions, mask=positions < length, other=0) if SEGMENTS else positions


@triton.jit
def _product(x, y, EXACT: tl.constexpr):
    # Float32 means float32: by default the tensor cores would round its operands.
    return tl.dot(x, y, input_precision="ieee") if EXACT else tl.dot(x, y)


@triton.jit
def _scores(products, SCALE: tl.constexpr, CAP: tl.constexpr):
    """Scores to the base 2."""
    if CAP is None:
        scores = products * (SCALE * LOG2_E)
    else:
        # tanh by exponentials: Triton has none of its own on every target.
        scores = CAP * LOG2_E * (1 - 2 / (1 + tl.exp2(products * (2 * SCALE / CAP * LOG2_E))))
    return scores


@triton.jit
def _allowed(queries, keys, q_ids, k_ids, offset, kv_length, CAUSAL, WINDOW, SEGMENTS):
    """Which pairs may meet; queries and keys are positions, one of them a column and the other a row."""
    distance = offset + queries - keys
    allowed = (keys < kv_length) & (queries >= 0)  # the second, always true, gives it the shape of the tile
    if CAUSAL:
        allowed = allowed & (distance >= 0)
    if WINDOW is not None:
        allowed = allowed & (distance < WINDOW)
    if SEGMENTS:
        allowed = allowed & (q_ids == k_ids) & (k_ids != 0)
    return allowed


@triton.jit
def forward_kernel(
    q, k, v, q_segments, kv_segments, tiles, offset, length, kv_length, out, lse,
    N: tl.constexpr, K: tl.constexpr, H: tl.constexpr, D: tl.constexpr, Q: tl.constexpr, S: tl.constexpr,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, SEGMENTS: tl.constexpr,
    SCALE: tl.constexpr, CAP: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """One tile of queries of one head: grid (query tiles, B * N)."""
    tile, head, row = tl.program_id(0), tl.program_id(1) % N, tl.program_id(1) // N
    queries, columns = tile * Q + tl.arange(0, Q), tl.arange(0, D)
    first = tl.load(offset)
    q_base = (row.to(tl.int64) * length * N + head) * H
    k_base = (row.to(tl.int64) * kv_length * K + head // (N // K)) * H
    q_tile = _load(q + q_base, queries, columns, length, N * H, H, D, False)
    q_ids = _ids(q_segments, row, queries, length, SEGMENTS)
    highest = tl.full([Q], LEAST_MAXIMUM, tl.float32)
    total = tl.zeros([Q], tl.float32)
    acc = tl.zeros([Q, D], tl.float32)
    bounds = tiles + (row * tl.num_programs(0) + tile) * 4
    for part in tl.static_range(3):
        for j in range(tl.load(bounds + part), tl.load(bounds + part + 1)):
            keys = j * S + tl.arange(0, S)
            k_tile = _load(k + k_base, keys, columns, kv_length, K * H, H, D, part == 1)
            scores = _scores(_product(q_tile, tl.trans(k_tile), EXACT), SCALE, CAP)
            if part != 1:
                k_ids = _ids(kv_segments, row, keys, kv_length, SEGMENTS)
                allowed = _allowed(
                    queries[:, None], keys[None, :], q_ids[:, None], k_ids[None, :], first, kv_length,
                    CAUSAL, WINDOW, SEGMENTS,
                )  # fmt: skip
                scores = tl.where(allowed, scores, FORBIDDEN)
            new_highest = tl.maximum(highest, tl.max(scores, 1))
            weights = tl.exp2(scores - new_highest[:, None])
            shrink = tl.exp2(highest - new_highest)
            total = total * shrink + tl.sum(weights, 1)
            v_tile = _load(v + k_base, keys, columns, kv_length, K * H, H, D, part == 1)
            acc = acc * shrink[:, None] + _product(weights.to(v_tile.dtype), v_tile, EXACT)
            highest = new_highest
    empty = total == 0
    total = tl.where(empty, 1.0, total)
    _store(out + q_base, (acc / total[:, None]).to(out.dtype.element_ty), queries, columns, length, N * H, H)
    log = tl.where(empty, float("-inf"), highest / LOG2_E + tl.log(total))
    tl.store(lse + (row.to(tl.int64) * length + queries) * N + head, log, mask=queries < length)


@triton.jit
def backward_queries_kernel(
    q, k, v, q_segments, kv_segments, tiles, offset, d_out, lse, shift, length, kv_length, dq,
    N: tl.constexpr, K: tl.constexpr, H: tl.constexpr, D: tl.constexpr, Q: tl.constexpr, S: tl.constexpr,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, SEGMENTS: tl.constexpr,
    SCALE: tl.constexpr, CAP: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """The gradient of one tile of queries of one head: grid (query tiles, B * N)."""
    tile, head, row = tl.program_id(0), tl.program_id(1) % N, tl.program_id(1) // N
    queries, columns = tile * Q + tl.arange(0, Q), tl.arange(0, D)
    first = tl.load(offset)
    q_base = (row.to(tl.int64) * length * N + head) * H
    k_base = (row.to(tl.int64) * kv_length * K + head // (N // K)) * H
    q_tile = _load(q + q_base, queries, columns, length, N * H, H, D, False)
    d_out_tile = _load(d_out + q_base, queries, columns, length, N * H, H, D, False)
    statistics = (row.to(tl.int64) * N + head) * length
    lse_tile = _load_numbers(lse + statistics, queries, length, -LEAST_MAXIMUM, False)
    shift_tile = _load_numbers(shift + statistics, queries, length, 0.0, False)
    q_ids = _ids(q_segments, row, queries, length, SEGMENTS)
    acc = tl.zeros([Q, D], tl.float32)
    bounds = tiles + (row * tl.num_programs(0) + tile) * 4
    for part in tl.static_range(3):
        for j in range(tl.load(bounds + part), tl.load(bounds + part + 1)):
            keys = j * S + tl.arange(0, S)
            k_tile = _load(k + k_base, keys, columns, kv_length, K * H, H, D, part == 1)
            v_tile = _load(v + k_base, keys, columns, kv_length, K * H, H, D, part == 1)
            scores = _scores(_product(q_tile, tl.trans(k_tile), EXACT), SCALE, CAP)
            weights = tl.exp2(scores - lse_tile[:, None])
            if part != 1:
                k_ids = _ids(kv_segments, row, keys, kv_length, SEGMENTS)
                allowed = _allowed(
                    queries[:, None], keys[None, :], q_ids[:, None], k_ids[None, :], first, kv_length,
                    CAUSAL, WINDOW, SEGMENTS,
                )  # fmt: skip
                weights = tl.where(allowed, weights, 0.0)
            d_scores = weights * (_product(d_out_tile, tl.trans(v_tile), EXACT) + shift_tile[:, None])
            if CAP is not None:
                slope = scores / (CAP * LOG2_E)
                d_scores = d_scores * (1 - slope * slope)
            acc += _product(d_scores.to(k_tile.dtype), k_tile, EXACT)
    _store(dq + q_base, (acc * SCALE).to(dq.dtype.element_ty), queries, columns, length, N * H, H)


@triton.jit
def backward_keys_kernel(
    q, k, v, q_segments, kv_segments, tiles, offset, d_out, lse, shift, length, kv_length, dk, dv,
    N: tl.constexpr, K: tl.constexpr, H: tl.constexpr, D: tl.constexpr, Q: tl.constexpr, S: tl.constexpr,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, SEGMENTS: tl.constexpr,
    SCALE: tl.constexpr, CAP: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """The gradients of one tile of keys and values, summed over its query heads: grid (key tiles, B * K).

    Scores are transposed here, [S Q], so that no product needs the transpose of what was just computed.
    """
    tile, kv_head, row = tl.program_id(0), tl.program_id(1) % K, tl.program_id(1) // K
    keys, columns = tile * S + tl.arange(0, S), tl.arange(0, D)
    first = tl.load(offset)
    k_base = (row.to(tl.int64) * kv_length * K + kv_head) * H
    k_tile = _load(k + k_base, keys, columns, kv_length, K * H, H, D, False)
    v_tile = _load(v + k_base, keys, columns, kv_length, K * H, H, D, False)
    k_ids = _ids(kv_segments, row, keys, kv_length, SEGMENTS)
    dk_acc = tl.zeros([S, D], tl.float32)
    dv_acc = tl.zeros([S, D], tl.float32)
    dk_sum, dv_sum = dk_acc, dv_acc
    bounds = tiles + (row * tl.num_programs(0) + tile) * 4
    for g in range(N // K):
        head = kv_head * (N // K) + g
        q_base = (row.to(tl.int64) * length * N + head) * H
        statistics = (row.to(tl.int64) * N + head) * length
        for part in tl.static_range(3):
            for i in range(tl.load(bounds + part), tl.load(bounds + part + 1)):
                queries = i * Q + tl.arange(0, Q)
                q_tile = _load(q + q_base, queries, columns, length, N * H, H, D, part == 1)
                d_out_tile = _load(d_out + q_base, queries, columns, length, N * H, H, D, part == 1)
                lse_tile = _load_numbers(lse + statistics, queries, length, -LEAST_MAXIMUM, part == 1)
                shift_tile = _load_numbers(shift + statistics, queries, length, 0.0, part == 1)
                scores = _scores(_product(k_tile, tl.trans(q_tile), EXACT), SCALE, CAP)
                weights = tl.exp2(scores - lse_tile[None, :])
                if part != 1:
                    q_ids = _ids(q_segments, row, queries, length, SEGMENTS)
                    allowed = _allowed(
                        queries[None, :], keys[:, None], q_ids[None, :], k_ids[:, None], first, kv_length,
                        CAUSAL, WINDOW, SEGMENTS,
                    )  # fmt: skip
                    weights = tl.where(allowed, weights, 0.0)
                dv_acc += _product(weights.to(d_out_tile.dtype), d_out_tile, EXACT)
                d_scores = weights * (_product(v_tile, tl.trans(d_out_tile), EXACT) + shift_tile[None, :])
                if CAP is not None:
                    slope = scores / (CAP * LOG2_E)
                    d_scores = d_scores * (1 - slope * slope)
                dk_acc += _product(d_scores.to(q_tile.dtype), q_tile, EXACT)
        if EXACT:  # one sum over all heads would lose digits of float32
            dk_sum, dv_sum = dk_sum + dk_acc, dv_sum + dv_acc
            dk_acc, dv_acc = tl.zeros([S, D], tl.float32), tl.zeros([S, D], tl.float32)
    if EXACT:
        dk_acc, dv_acc = dk_sum, dv_sum
    _store(dk + k_base, (dk_acc * SCALE).to(dk.dtype.element_ty), keys, columns, kv_length, K * H, H)
    _store(dv + k_base, dv_acc.to(dv.dtype.element_ty), keys, columns, kv_length, K * H, H)
