"""Reading a compiled step: its collectives, and the bytes it moves through memory.

XLA's own cost analysis counts the body of a loop once. Here the text of the optimised program is read: which
computation is the body of which loop, and how often the loop runs, by the constant that its condition compares with.
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
    """One line: `name = shape operation(operands), attributes`."""

    name: str
    shape: str
    operation: str
    rest: str

    @property
    def operands(self) -> list[str]:
        """Names of the operands."""
        return re.findall(r"%([\w.\-]+)", self.rest.split("), ")[0])

    def attribute(self, name: str) -> str | None:
        """The computation that an attribute names."""
        found = re.search(rf"{name}=%?([\w.\-]+)", self.rest)
        return found and found.group(1)


@dataclass(frozen=True)
class Collective:
    """One collective of the program on one device."""

    kind: str  # one of COLLECTIVES; a sum of which each device keeps its part is a reduce-scatter
    bytes: float  # of the whole: what is there after gathering, or before scattering
    group: tuple[int, ...]  # positions of the devices of the first group in the mesh, flattened
    times: int  # in a step
    overlapped: bool  # it has a start and an end, with work between them


class Program(NamedTuple):
    """What a step does besides matrix products."""

    collectives: list[Collective]
    memory_traffic: float  # bytes read and written in a step, on one device
    unknown_loops: int  # how many loops run a number of times that the program does not tell; their body counts once


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
            found = _collective(instruction, computations, shapes, count)
            if found is not None:
                # One that runs beside products is written as a chain of fusions, which share a channel.
                channel, collective = found
                first = collectives.setdefault((name, channel), collective)
                if collective.overlapped:
                    collectives[name, channel] = replace(first, overlapped=True)
            if instruction.operation not in FREE and not instruction.operation.endswith("-done"):
                traffic += count * _traffic(instruction, shapes, trips)
    return Program(list(collectives.values()), traffic, unknown)


def _computations(text: str) -> dict[str, list[Instruction]]:
    found: dict[str, list[Instruction]] = {}
    current: list[Instruction] = []
    for line in re.sub(r"/\*.*?\*/", "", text).splitlines():
        if header := _COMPUTATION.match(line):
            current = found.setdefault(header.group(1), [])
        elif instruction := _INSTRUCTION.match(line):
            current.append(Instruction(*instruction.groups()))
    return found


def _times(text: str, computations: dict[str, list[Instruction]]) -> tuple[dict[str, tuple[int, int]], int]:
    """How often the entry, each loop's body and what they call run in a step, and in one run of the loop around them;
    and how many loops do not tell how often they run.

    Computations inside of fusions are not listed.
    """
    entry = re.search(r"^ENTRY %?([\w.\-]+) ", text, re.MULTILINE)
    if entry is None:
        raise ValueError("this is no optimised HLO: it has no ENTRY computation")
    times, waiting, unknown = {entry.group(1): (1, 1)}, [entry.group(1)], 0
    while waiting:
        name = waiting.pop()
        count, around = times[name]
        for instruction in computations[name]:
            if instruction.operation == "while":
                body, condition = instruction.attribute("body"), instruction.attribute("condition")
                assert body is not None and condition is not None
                trips = _trips(instruction, computations[condition], computations)
                unknown += trips is None
                inner, runs = [body], (count * (trips or 1), trips or 1)
            elif instruction.operation in ("call", "conditional", "async-start"):
                # Of the branches of a condition all are counted: at the most.
                inner, runs = (
                    [x for x in re.findall(r"%([\w.\-]+)", instruction.rest) if x in computations],
                    (count, around),
                )
            else:
                continue
            times |= dict.fromkeys(inner, runs)
            waiting += inner
    return times, unknown


def _trips(loop: Instruction, condition: list[Instruction], computations: dict[str, list[Instruction]]) -> int | None:
    """How often a loop runs: as the compiler says, or the largest constant that its condition compares with."""
    if known := re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.rest):
        return int(known.group(1))
    inner = [computations[called] for x in condition if (called := x.attribute("calls"))]
    constants = [
        int(found.group(1))
        for instruction in [*condition, *(x for body in inner for x in body)]
        if instruction.operation == "constant" and (found := re.match(r"(\d+)\)", instruction.rest))
    ]
    return max(constants, default=None)


def _collective(
    instruction: Instruction, computations: dict[str, list[Instruction]], shapes: dict[str, str], times: int
) -> tuple[str, Collective] | None:
    """The collective that an instruction is or holds, and its channel."""
    overlapped = instruction.operation.endswith("-start")
    kind = instruction.operation.removesuffix("-start")
    inner = instruction
    if kind == "fusion":
        called = instruction.attribute("calls") or ""
        found = [x for x in computations.get(called, []) if x.operation in COLLECTIVES]
        if not found:
            return None
        inner, overlapped = found[0], called.startswith("async_collective")
        # A TPU's reduce-scatter is a sum over devices together with the slice that each of them keeps.
        kind = "reduce-scatter" if "all-reduce-scatter" in called else inner.operation
    elif kind not in COLLECTIVES:
        return None
    operands = sum(_bytes(shapes.get(name, "")) for name in instruction.operands)
    whole = _bytes(inner.shape)
    if instruction.operation.endswith("-start"):
        # Operands and results stand there together; of a sum the results alone.
        whole = whole if kind == "all-reduce" else whole - operands
    if instruction.operation.startswith("reduce-scatter"):
        whole = operands
    channel = re.search(r"channel_id=(\d+)", inner.rest)
    name = channel.group(1) if channel and instruction.operation == "fusion" else instruction.name
    return name, Collective(kind, whole, _group(inner.rest), times, overlapped)


def _group(attributes: str) -> tuple[int, ...]:
    """The first group, from any of the ways in which HLO writes groups; of a permutation the first pair that moves."""
    if "source_target_pairs" in attributes:
        pairs = re.findall(r"\{(\d+),(\d+)\}", attributes)
        return next(((int(here), int(there)) for here, there in pairs if here != there), ())
    if found := re.search(r"replica_groups=\{\{([\d,]+)\}", attributes):
        return tuple(map(int, found.group(1).split(",")))
    if found := re.search(r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", attributes):
        order = _iota(found.group(3), found.group(4))
        return tuple(order[: int(found.group(2))])
    if found := re.search(
        r"replica_groups=mesh\[([^\]]+)\](?:, device_ids=\(\[([\d,]+)\]T\(([\d,]+)\)\))? \{([^}]*)\}", attributes
    ):
        axes = re.findall(r"'(\w+)'=(\d+)", found.group(1))
        sizes = [int(size) for _, size in axes]
        order = _iota(found.group(2), found.group(3)) if found.group(2) else range(math.prod(sizes))
        chosen = set(re.findall(r"'(\w+)'", found.group(4)))
        strides = [math.prod(sizes[index + 1 :]) for index in range(len(sizes))]
        members = [0]
        for (name, _), size, stride in zip(axes, sizes, strides, strict=True):
            if name in chosen:
                members = [member + step * stride for member in members for step in range(size)]
        return tuple(order[member] for member in members)
    return ()


def _iota(sizes: str, permutation: str | None) -> list[int]:
    """The numbers 0, 1, … reshaped to `sizes`, transposed, and flattened again."""
    dims = [int(size) for size in sizes.split(",")]
    axes = [int(axis) for axis in permutation.split(",")] if permutation else list(range(len(dims)))
    strides = [math.prod(dims[index + 1 :]) for index in range(len(dims))]
    order = [0]
    for axis in axes:
        order = [base + step * strides[axis] for base in order for step in range(dims[axis])]
    return order


def _traffic(instruction: Instruction, shapes: dict[str, str], trips: int) -> float:
    """Bytes that an instruction moves through memory in one trip of a loop of so many.

    An array with as many parts as the loop has trips is a stack, as of the layers' parameters: a trip uses one part.
    What a TPU keeps beside its units (a memory space other than 0) is not in memory, and what a step of an overlapped
    collective only hands on does not move.
    """
    results = _in_memory(instruction.shape)
    operands = Counter[str]()
    for name in instruction.operands:
        operands += _in_memory(shapes.get(name, ""))
    if (instruction.attribute("calls") or "").startswith("async_collective"):
        results, operands = results - operands, operands - results
    if instruction.operation.endswith("-start"):
        results -= operands  # which stand among its results until it is done
    total = 0.0
    for array, count in (results + operands).items():
        stacked = array.partition("[")[2].startswith(f"{trips},") and trips > 1
        total += count * _bytes(array) / (trips if stacked else 1)
    return total


def _in_memory(shape: str) -> Counter[str]:
    """The arrays of a shape, as `bf16[8,128]`, without those that a TPU's layout puts elsewhere."""
    arrays = re.findall(r"(\w+\[[\d,]*\])(\{[^}]*\})?", shape)
    return Counter(array for array, layout in arrays if not ("T(" in layout and "S(" in layout))


def _bytes(shape: str) -> float:
    """Bytes of all arrays of a shape. A type's name holds its bits (bf16, f8e4m3fn, u32); pred has a byte."""
    total = 0
    for dtype, sizes in _SHAPE.findall(shape):
        bits = re.search(r"\d+", dtype)
        size = int(bits.group()) / 8 if bits else dtype == "pred"
        total += size * math.prod(int(part) for part in sizes.split(",") if part)
    return float(total)
