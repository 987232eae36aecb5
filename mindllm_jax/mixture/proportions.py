"""Apportionment: whole numbers of rows in given proportions, by integer arithmetic alone."""

from collections.abc import Sequence


def recipient(index: int, weights: Sequence[int]) -> tuple[int, int]:
    """Returns who receives the item `index`, and how many items it received before.

    Recipients take turns evenly: of any number of items from the start each has received what `apportion` gives. After
    every `sum(weights)` items that is exactly its weight.
    """
    rest = sum(weights)
    for which, weight in enumerate(weights):
        doubled = 2 * index * weight + rest
        before = doubled // (2 * rest)
        if (doubled + 2 * weight) // (2 * rest) > before:
            return which, before
        index -= before
        rest -= weight
    raise AssertionError("the last one receives the rest")


def apportion(items: int, weights: Sequence[int]) -> list[int]:
    """Apportions items by weights: the first gets its share, rounded; the others share the rest in the same way."""
    rest, counts = sum(weights), []
    for weight in weights:
        counts.append((2 * items * weight + rest) // (2 * rest) if weight else 0)
        items -= counts[-1]
        rest -= weight
    return counts


def allocate(demands: Sequence[int], weights: Sequence[Sequence[int]], caps: Sequence[int | None]) -> list[list[int]]:
    """Allocates rows of sources to stages when sources are capped over all stages together.

    A source that would exceed its cap is cut by the same factor in every stage, and the others of a stage take over
    in proportion to their weights, which may make them exceed theirs. Where that leaves a stage short while another
    source has rows to spare, rows change places between stages, so that demands are met whenever they can be.

    Args:
        demands: rows of each stage.
        weights: of each stage, by source; a source of weight 0 gives nothing to that stage.
        caps: rows of each source over all stages; None for no cap.

    Returns rows by stage and source. A stage's sum is below its demand only where no allocation meets all demands; the
    total shortage is then the smallest possible.
    """
    stages, sources = range(len(demands)), range(len(caps))
    limits: list[list[int | None]] = [[None] * len(caps) for _ in stages]
    capped = set[int]()
    while True:
        rows = [_fill(demands[stage], weights[stage], limits[stage]) for stage in stages]
        totals = [sum(column) for column in zip(*rows, strict=True)]
        over = [s for s in sources if s not in capped and (cap := caps[s]) is not None and totals[s] > cap]
        if not over:
            break
        capped.update(over)
        for source in over:
            for stage, part in enumerate(apportion(caps[source] or 0, [row[source] for row in rows])):
                limits[stage][source] = part
    demand = sum(demands)
    spare = [(demand if cap is None else cap) - total for cap, total in zip(caps, totals, strict=True)]
    for stage in stages:
        while (short := demands[stage] - sum(rows[stage])) and _reroute(stage, short, rows, weights, spare, set()):
            pass
    return rows


def _fill(items: int, weights: Sequence[int], limits: Sequence[int | None]) -> list[int]:
    """Apportions items by weights; who would get more than the limit gets that, and the others share the rest."""
    counts, open_weights = [0] * len(weights), list(weights)
    while any(open_weights):
        parts = apportion(items, open_weights)
        full = {
            s: limit for s, limit in enumerate(limits) if limit is not None and open_weights[s] and parts[s] > limit
        }
        if not full:
            return [part or before for part, before in zip(parts, counts, strict=True)]
        for source, limit in full.items():
            counts[source], open_weights[source] = limit, 0
            items -= limit
    return counts


def _reroute(
    stage: int, short: int, rows: list[list[int]], weights: Sequence[Sequence[int]], spare: list[int], seen: set[int]
) -> int:
    """Finds rows for a stage that is short, and returns how many.

    They come from a source with rows to spare, or from another stage that takes another source instead: an augmenting
    path (Ford and Fulkerson, "Maximal Flow Through a Network", 1956).
    """
    for source, weight in enumerate(weights[stage]):
        if not weight or source in seen:
            continue
        seen.add(source)
        moved = min(short, spare[source])
        spare[source] -= moved
        givers = [other for other, counts in enumerate(rows) if other != stage and counts[source]]
        while givers and not moved:
            giver = givers.pop()
            moved = _reroute(giver, min(short, rows[giver][source]), rows, weights, spare, seen)
            rows[giver][source] -= moved
        if moved:
            rows[stage][source] += moved
            return moved
    return 0
