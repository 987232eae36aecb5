"""The problems of `attention.py`, calls of every implementation, their errors and their time."""

import functools
import hashlib
import math
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

OURS = {"gpu": "triton", "tpu": "tpu", "cpu": "xla"}
CHECKED = 512
"""Queries whose results are compared."""


class Problem(NamedTuple):
    """One problem for all implementations."""

    mean: int | None  # length of the documents; None: one causal document per row
    head_dim: int
    heads: int
    kv_heads: int
    length: int
    batch: int

    def names(self) -> tuple[str, int, str, int]:
        """Returns the problem's columns of the table: row, head, heads and length."""
        row = "causal" if self.mean is None else f"packed {self.mean}"
        return row, self.head_dim, f"{self.heads}/{self.kv_heads}", self.length

    def segment_ids(self) -> np.ndarray:
        """Returns int32 [B T], the same for all implementations and runs."""
        rng = np.random.default_rng(0)
        if self.mean is None:
            return np.ones((self.batch, self.length), np.int32)
        ends = np.cumsum(1 + rng.exponential(self.mean, size=(self.batch, self.length)).astype(int), axis=1)
        positions = np.arange(self.length)
        return np.stack([1 + np.searchsorted(row, positions, side="right") for row in ends]).astype(np.int32)

    @functools.lru_cache(maxsize=2)  # noqa: B019  all calls of a problem share them, because drawing takes seconds
    def arrays(self) -> tuple[np.ndarray, ...]:
        """Returns q, k, v and the gradient of the output, float32."""
        rng = np.random.default_rng(1)
        heads = (self.heads, self.kv_heads, self.kv_heads, self.heads)
        return tuple(rng.standard_normal((self.batch, self.length, n, self.head_dim), np.float32) for n in heads)

    def flop(self) -> float:
        """Counts the FLOP of the forward pass."""
        ids = self.segment_ids()
        first = np.stack([np.searchsorted(row, row) for row in ids])  # where each position's document begins
        pairs = (np.arange(self.length) - first + 1).sum()
        return 4.0 * self.head_dim * self.heads * float(pairs)


def tiles_digest() -> str:
    """Returns the digest of the table of tiles: measurements with another table do not count."""
    from mindllm_jax.kernels.flash_attention.tiles import PATH

    return hashlib.sha256(PATH.read_bytes()).hexdigest()[:12]


class Call(NamedTuple):
    """A call of an implementation with a problem."""

    forward: Callable[[], Any]  # asynchronous, as `both`
    both: Callable[[], Any]
    wait: Callable[[Any], Any]  # blocks until their result is ready
    results: Callable[[], list[np.ndarray]]  # output and the gradients of q, k and v, float32


def with_jax(name: str, problem: Problem) -> Call:
    """Returns a call of an implementation of `flash_attention`."""
    import jax
    import jax.numpy as jnp

    from mindllm_jax.kernels.flash_attention import block_ranges, flash_attention

    ids = jnp.asarray(problem.segment_ids())
    packed = {} if problem.mean is None else {"segment_ids": ids, "block_ranges": jax.jit(block_ranges)(ids)}
    q, k, v, d_out = (jnp.asarray(x, jnp.bfloat16) for x in problem.arrays())

    def attend(q: jax.Array, k: jax.Array, v: jax.Array) -> Any:
        return flash_attention(q, k, v, implementation=name, **packed)

    def with_gradients(q: jax.Array, k: jax.Array, v: jax.Array, d_out: jax.Array) -> Any:
        out, vjp = jax.vjp(attend, q, k, v)
        return out, *vjp(d_out)

    forward, both = jax.jit(attend), jax.jit(with_gradients)
    return Call(
        lambda: forward(q, k, v),
        lambda: both(q, k, v, d_out),
        jax.block_until_ready,
        lambda: [np.asarray(x, np.float32) for x in both(q, k, v, d_out)],
    )


def with_torch(problem: Problem) -> Call:
    """Returns a call of PyTorch's attention, on a GPU if it has one."""
    import torch

    if problem.mean is not None:
        raise ValueError("scaled_dot_product_attention has no documents, only a dense mask")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tensors = [torch.from_numpy(x).to(device, torch.bfloat16).transpose(1, 2) for x in problem.arrays()]
    q, k, v = (x.contiguous().requires_grad_() for x in tensors[:3])
    grouped = problem.heads != problem.kv_heads

    def attend() -> Any:
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)

    def wait(_: Any) -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    def both() -> list[Any]:
        out = attend()
        return [out, *torch.autograd.grad(out, (q, k, v), tensors[3])]

    return Call(
        torch.no_grad()(attend), both, wait, lambda: [x.detach().transpose(1, 2).float().cpu().numpy() for x in both()]
    )


@functools.lru_cache(maxsize=1)
def truth(problem: Problem) -> list[np.ndarray]:
    """Computes `Call.results` in float32 at the last queries of the first row and at the keys that only these see."""
    import jax
    import jax.numpy as jnp

    from mindllm_jax.kernels.flash_attention import flash_attention

    last = slice(max(0, problem.length - CHECKED), None)
    ids = jnp.asarray(problem.segment_ids()[:1])
    q, k, v, d_out = (jnp.asarray(x[:1], jnp.bfloat16).astype(jnp.float32) for x in problem.arrays())

    @jax.jit
    def run(q: jax.Array, k: jax.Array, v: jax.Array, d_out: jax.Array) -> Any:
        def attend(q: jax.Array, k: jax.Array, v: jax.Array) -> Any:
            pair = (ids[:, last], ids)
            return flash_attention(q, k, v, segment_ids=pair, q_offset=last.start, implementation="reference")

        out, vjp = jax.vjp(attend, q, k, v)
        return out, *vjp(d_out)

    with jax.default_matmul_precision("highest"):
        out, dq, dk, dv = run(q[:, last], k, v, d_out[:, last])
    return [np.asarray(x) for x in (out, dq, dk[:, last], dv[:, last])]


def errors(results: list[np.ndarray], expected: list[np.ndarray]) -> list[float]:
    """Returns the relative Frobenius errors of output and gradients against `truth`."""
    pairs = ((x[:1, -y.shape[1] :], y) for x, y in zip(results, expected, strict=True))
    return [float(np.linalg.norm(x - y) / np.linalg.norm(y)) for x, y in pairs]


def seconds(call: Callable[[], Any], wait: Callable[[Any], Any], *, sample: float = 0.05) -> float:
    """Returns the time of a call: the median of five samples, each of consecutive calls that take about `sample`.

    An accelerator runs them without waiting for the host.
    """

    def measure(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count - 1):
            call()
        wait(call())
        return (time.perf_counter() - start) / count

    measure(1)  # compiles
    count = min(100, math.ceil(sample / measure(1)))
    return statistics.median(measure(count) for _ in range(5))


def matrix_product_rate(dtype: Any = "bfloat16") -> float:
    """Measures the FLOP/s of a square matrix product of random numbers: with ones a GPU would be faster."""
    import jax

    size = 512 if jax.default_backend() == "cpu" else 8192
    x, y = jax.random.normal(jax.random.key(0), (2, size, size), dtype)
    multiply = jax.jit(lambda x, y: x @ y)
    return 2 * size**3 / seconds(lambda: multiply(x, y), jax.block_until_ready)
