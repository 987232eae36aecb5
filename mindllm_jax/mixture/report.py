"""Tokens and epochs of every source that a run will read, from the manifest alone."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mindllm_jax.mixture.schedule import Schedule
from mindllm_jax.mixture.settings import Mixture, rows_in_epoch, short_sources
from mindllm_jax.reporting.tables import Cell, Table
from mindllm_jax.store.store import TokenStore

# Up to about four epochs repeated text is worth almost as much as new text, and soon after that much less (Muennighoff
# et al., "Scaling Data-Constrained Language Models", 2023, arXiv 2305.16264).
USEFUL_EPOCHS = 4


class MixtureReport(NamedTuple):
    """A table and warnings about the schedule of a run.

    Attributes:
        table: tokens, share and epochs of every source and language, in each stage and in the run.
        warnings: a sentence for each source that is left out because it is too short for one row, and one for those
            that are read in more than `USEFUL_EPOCHS` epochs.
    """

    table: Table
    warnings: list[str]


def mixture_report(mixture: Mixture, store: TokenStore, *, steps: int, global_batch_size: int) -> MixtureReport:
    """Tabulates what a run of so many steps reads, from the store's manifest alone.

    Raises ValueError for what the store cannot give, as `MixtureRows` does.
    """
    schedule = Schedule(mixture, rows_in_epoch(mixture, store), steps=steps, global_batch_size=global_batch_size)
    whole_run = [sum(counts) for counts in zip(*(stage.counts for stage in schedule.stages), strict=True)]
    parts = [(stage.name, stage.counts) for stage in schedule.stages] if mixture.stages else []
    lines = [
        [name, *line]
        for name, counts in [*parts, ("whole run", whole_run)]
        for line in _lines(schedule, counts, mixture.sequence_length)
    ]
    caption = f"{steps:,} steps of {global_batch_size:,} rows of {mixture.sequence_length:,} tokens"
    warnings = [
        f"{source} is left out: its {store.split(source, 'train').tokens:,} tokens are too few for a row"
        for source in short_sources(mixture, store)
        if not mixture.sources and store.sources[source].language in mixture.languages()
    ]
    epochs = {source.name: rows / source.rows for source, rows in zip(schedule.sources, whole_run, strict=True)}
    often = {name: times for name, times in epochs.items() if times > USEFUL_EPOCHS}
    if often:
        most = max(often, key=lambda name: often[name])
        others = f" and {len(often)} sources more than {USEFUL_EPOCHS} times" if len(often) > 1 else ""
        warnings.append(
            f"{most} is read {often[most]:.1f} times{others}; repeated text loses its value after about"
            f" {USEFUL_EPOCHS} epochs (Muennighoff et al. 2023, arXiv 2305.16264): cap it by Mixture.max_epochs, lower"
            " its weight, or add text"
        )
    return MixtureReport(Table(("stage", "source", "tokens", "share", "epochs"), lines, caption), warnings)


def _lines(schedule: Schedule, counts: Sequence[int], length: int) -> Iterator[list[Cell]]:
    """Yields the sources of each language, then the language. Tokens count the padding at the end of an epoch."""
    sources = list(zip(schedule.sources, counts, strict=True))
    for language in dict.fromkeys(source.language for source, _ in sources):
        members = [(source, rows) for source, rows in sources if source.language == language]
        for source, rows in members:
            yield [source.name, rows * length, f"{rows / sum(counts):.2%}", rows / source.rows]
        rows = sum(rows for _, rows in members)
        yield [f"all of {language}", rows * length, f"{rows / sum(counts):.2%}", None]
