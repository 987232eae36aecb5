"""Reads a compiled step's optimised HLO: its collectives, and the bytes it moves through memory.

XLA's own cost analysis counts the body of a loop once. This one multiplies it by the loop's trip count, which the
compiler states or the constant in the loop's condition gives.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import NamedTuple

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
FREE = frozenset(
    "parameter tuple get-tuple-element bitcast constant while conditional call after-all partition-id".split()
)

_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)$")
_SHAPE = re.compile(r"(\w+)\[([\d,]*)\]")


class Instruction(NamedTuple):
    """One line of HLO: `name = shape operation(operands), attributes`."""

    name: str
    shape: str
    operation: str
    rest: str

    @property
    def operands(self) -> list[str]:
        """The names of the operands."""
        return re.findall(r"%([\w.\-]+)", self.rest.split("), ")[0])

    def attribute(self, name: str) -> str | None:
        """Returns the computation that an attribute names, or None."""
        match = re.search(rf"{name}=%?([\w.\-]+)", self.rest)
        return match and match.group(1)


@dataclass(frozen=True)
class Collective:
    """One collective of the program on one device."""

    kind: str  # one of COLLECTIVES; an all-reduce of which each device keeps a slice is a reduce-scatter
    bytes: float  # of the full array: after gathering, or before scattering
    group: tuple[int, ...]  # positions of the devices of the first group in the mesh, flattened
    times: int  # executions per step
    overlapped: bool  # whether work runs between its start and its end


class Program(NamedTuple):
    """The collectives and memory traffic of a step, on one device."""

    collectives: list[Collective]
    memory_traffic: float  # bytes read and written per step
    unknown_loops: int  # loops without a known trip count; their bodies count once


def read(text: str) -> Program:
    """Reads the optimised HLO of a step, `compiled.as_text()`."""
    computations = _computations(text)
    times, unknown = _times(text, computations)
    collectives: dict[tuple[str, str], Collective] = {}
    traffic = 0.0
    for name, (count, trips) in times.items():
        body = computations[name]
        shapes = {instruction.name: instruction.shape for instruction in body}
        for instruction in body:
            parsed = _collective(instruction, computations, shapes, count)
            if parsed is not None:
                # An overlapped one is a chain of fusions, which share a channel.
                channel, collective = parsed
                first = collectives.setdefault((name, channel), collective)
                if collective.overlapped:
                    collectives[name, channel] = replace(first, overlapped=True)
            if instruction.operation not in FREE and not instruction.operation.endswith("-done"):
                traffic += count * _traffic(instruction, shapes, trips)
    return Program(list(collectives.values()), traffic, unknown)


def _computations(text: str) -> dict[str, list[Instruction]]:
    computations: dict[str, list[Instruction]] = {}
    current: list[Instruction] = []
    for line in re.sub(r"/\*.*?\*/", "", text).splitlines():
        if header := _COMPUTATION.match(line):
            current = computations.setdefault(header.group(1), [])
        elif instruction := _INSTRUCTION.match(line):
            current.append(Instruction(*instruction.groups()))
    return computations


def _times(text: str, computations: dict[str, list[Instruction]]) -> tuple[dict[str, tuple[int, int]], int]:
    """Returns, by computation, its executions per step and the trip count of the loop around it; and the number of
    loops without a known trip count.

    Computations inside fusions are not listed.
    """
    entry = re.search(r"^ENTRY %?([\w.\-]+) ", text, re.MULTILINE)
    if entry is None:
        raise ValueError("the text is not optimised HLO: it has no ENTRY computation")
    times, queue, unknown = {entry.group(1): (1, 1)}, [entry.group(1)], 0
    while queue:
        name = queue.pop()
        count, around = times[name]
        for instruction in computations[name]:
            if instruction.operation == "while":
                body, condition = instruction.attribute("body"), instruction.attribute("condition")
                assert body is not None and condition is not None
                trips = _trips(instruction, computations[condition], computations)
                unknown += trips is None
                inner, runs = [body], (count * (trips or 1), trips or 1)
            elif instruction.operation in ("call", "conditional", "async-start"):
                # All branches of a conditional are counted: an upper bound.
                inner, runs = (
                    [x for x in re.findall(r"%([\w.\-]+)", instruction.rest) if x in computations],
                    (count, around),
                )
            else:
                continue
            times |= dict.fromkeys(inner, runs)
            queue += inner
    return times, unknown


def _trips(loop: Instruction, condition: list[Instruction], computations: dict[str, list[Instruction]]) -> int | None:
    """Returns a loop's trip count, as stated by the compiler or else the largest constant in its condition."""
    if known := re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.rest):
        return int(known.group(1))
    inner = [computations[called] for x in condition if (called := x.attribute("calls"))]
    constants = [
        int(match.group(1))
        for instruction in [*condition, *(x for body in inner for x in body)]
        if instruction.operation == "constant" and (match := re.match(r"(\d+)\)", instruction.rest))
    ]
    return max(constants, default=None)


def _collective(
    instruction: Instruction, computations: dict[str, list[Instruction]], shapes: dict[str, str], times: int
) -> tuple[str, Collective] | None:
    """Returns the collective that an instruction is or contains, with its channel, or None."""
    overlapped = instruction.operation.endswith("-start")
    kind = instruction.operation.removesuffix("-start")
    inner = instruction
    if kind == "fusion":
        called = instruction.attribute("calls") or ""
        fused = [x for x in computations.get(called, []) if x.operation in COLLECTIVES]
        if not fused:
            return None
        inner, overlapped = fused[0], called.startswith("async_collective")
        # A TPU's reduce-scatter is an all-reduce fused with the slice that each device keeps.
        kind = "reduce-scatter" if "all-reduce-scatter" in called else inner.operation
    elif kind not in COLLECTIVES:
        return None
    operands = sum(_bytes(shapes.get(name, "")) for name in instruction.operands)
    size = _bytes(inner.shape)
    if instruction.operation.endswith("-start"):
        # The shape holds operands and results; of an all-reduce the results alone.
        size = size if kind == "all-reduce" else size - operands
    if instruction.operation.startswith("reduce-scatter"):
        size = operands
    channel = re.search(r"channel_id=(\d+)", inner.rest)
    name = channel.group(1) if channel and instruction.operation == "fusion" else instruction.name
    return name, Collective(kind, size, _group(inner.rest), times, overlapped)


def _group(attributes: str) -> tuple[int, ...]:
    """Returns the first group, in any of HLO's notations; of a permutation the first pair that moves."""
    if "source_target_pairs" in attributes:
        pairs = re.findall(r"\{(\d+),(\d+)\}", attributes)
        return next(((int(source), int(target)) for source, target in pairs if source != target), ())
    if match := re.search(r"replica_groups=\{\{([\d,]+)\}", attributes):
        return tuple(map(int, match.group(1).split(",")))
    if match := re.search(r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", attributes):
        order = _iota(match.group(3), match.group(4))
        return tuple(order[: int(match.group(2))])
    if match := re.search(
        r"replica_groups=mesh\[([^\]]+)\](?:, device_ids=\(\[([\d,]+)\]T\(([\d,]+)\)\))? \{([^}]*)\}", attributes
    ):
        axes = re.findall(r"'(\w+)'=(\d+)", match.group(1))
        sizes = [int(size) for _, size in axes]
        order = _iota(match.group(2), match.group(3)) if match.group(2) else range(math.prod(sizes))
        chosen = set(re.findall(r"'(\w+)'", match.group(4)))
        strides = [math.prod(sizes[index + 1 :]) for index in range(len(sizes))]
        members = [0]
        for (name, _), size, stride in zip(axes, sizes, strides, strict=True):
            if name in chosen:
                members = [member + step * stride for member in members for step in range(size)]
        return tuple(order[member] for member in members)
    return ()


def _iota(sizes: str, permutation: str | None) -> list[int]:
    """Returns the numbers 0, 1, … reshaped to `sizes`, transposed, and flattened again."""
    dims = [int(size) for size in sizes.split(",")]
    axes = [int(axis) for axis in permutation.split(",")] if permutation else list(range(len(dims)))
    strides = [math.prod(dims[index + 1 :]) for index in range(len(dims))]
    order = [0]
    for axis in axes:
        order = [base + step * strides[axis] for base in order for step in range(dims[axis])]
    return order


def _traffic(instruction: Instruction, shapes: dict[str, str], trips: int) -> float:
    """Returns the bytes that an instruction moves through memory in one trip of the loop around it.

    An array whose leading axis has the length of the loop is a stack, as of the layers' parameters: a trip uses one
    part. Arrays in a TPU's other memory spaces do not count, nor arrays that a step of an overlapped collective only
    passes on.
    """
    results = _in_memory(instruction.shape)
    operands = Counter[str]()
    for name in instruction.operands:
        operands += _in_memory(shapes.get(name, ""))
    if (instruction.attribute("calls") or "").startswith("async_collective"):
        results, operands = results - operands, operands - results
    if instruction.operation.endswith("-start"):
        results -= operands  # which are among its results until it is done
    total = 0.0
    for array, count in (results + operands).items():
        stacked = array.partition("[")[2].startswith(f"{trips},") and trips > 1
        total += count * _bytes(array) / (trips if stacked else 1)
    return total


def _in_memory(shape: str) -> Counter[str]:
    """Returns the arrays of a shape, as `bf16[8,128]`, without those in a TPU's other memory spaces."""
    arrays = re.findall(r"(\w+\[[\d,]*\])(\{[^}]*\})?", shape)
    return Counter(array for array, layout in arrays if not ("T(" in layout and "S(" in layout))


def _bytes(shape: str) -> float:
    """Returns the bytes of all arrays of a shape: a type's name holds its bits (bf16, f8e4m3fn); pred is a byte."""
    total = 0
    for dtype, sizes in _SHAPE.findall(shape):
        bits = re.search(r"\d+", dtype)
        size = int(bits.group()) / 8 if bits else dtype == "pred"
        total += size * math.prod(int(part) for part in sizes.split(",") if part)
    return float(total)
