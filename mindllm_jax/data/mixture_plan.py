"""What a run will read, before it reads anything: tokens and epochs of every source."""

from mindllm_jax.data.mixture import Mixture, rows_in_epoch
from mindllm_jax.data.schedule import Schedule
from mindllm_jax.data.store import TokenStore
from mindllm_jax.reporting.tables import Cell, Table

USEFUL_EPOCHS = 4
"""Up to about four epochs repeated text is worth almost as much as new text, and soon after that much less (Muennighoff
et al., "Scaling Data-Constrained Language Models", 2023, arXiv 2305.16264)."""


class MixturePlan:
    """The schedule of a run as tables. Reads the store's manifest alone."""

    def __init__(self, mixture: Mixture, store: TokenStore, *, steps: int, batch_rows: int) -> None:
        """Raises ValueError for what the store cannot give, as `MixtureRows` does."""
        self._length = mixture.sequence_length
        self._schedule = Schedule(mixture, rows_in_epoch(mixture, store), steps=steps, batch_rows=batch_rows)
        columns = zip(*(stage.counts for stage in self._schedule.stages), strict=True)
        self._totals = [sum(column) for column in columns]
        self._caption = (
            f"{steps:,} steps of {batch_rows:,} rows of {self._length:,} tokens from {store.url}; tokens with the padding"
            " at the end of an epoch"
        )

    def tables(self) -> list[Table]:
        """One of each stage, and where there are several one of all the run."""
        stages = self._schedule.stages
        of_stages = [
            Table(
                (f"stage {stage.name}", "tokens", "share", "epochs in the stage", "epochs in the run"),
                [*self._lines(stage.counts, with_run=True)],
            )
            for stage in (stages if len(stages) > 1 else ())
        ]
        of_run = Table(("run", "tokens", "share", "epochs"), self._lines(self._totals), self._caption)
        return [*of_stages, of_run]

    def warnings(self) -> list[str]:
        """One sentence for each source that is read more often than repeated text is worth."""
        epochs = {s.name: rows / s.rows for s, rows in zip(self._schedule.sources, self._totals, strict=True)}
        return [
            f"{name} is read {count:.1f} times: repeated text loses its value after about {USEFUL_EPOCHS} epochs"
            " (Muennighoff et al. 2023, arXiv 2305.16264); cap it by Mixture.max_epochs, lower its weight, or add text"
            for name, count in epochs.items()
            if count > USEFUL_EPOCHS
        ]

    def _lines(self, counts: list[int], *, with_run: bool = False) -> list[list[Cell]]:
        """The sources of each language, and the language."""
        lines: list[list[Cell]] = []
        sources = list(zip(self._schedule.sources, counts, self._totals, strict=True))
        for language in dict.fromkeys(source.language for source in self._schedule.sources):
            own = [line for line in sources if line[0].language == language]
            for source, rows, total in own:
                epochs = [rows / source.rows, total / source.rows][: 2 if with_run else 1]
                lines.append([source.name, *self._figures(rows, counts), *epochs])
            rows = sum(rows for _, rows, _ in own)
            lines.append([f"all of {language}", *self._figures(rows, counts), *[None] * (2 if with_run else 1)])
        return lines

    def _figures(self, rows: int, counts: list[int]) -> list[Cell]:
        return [rows * self._length, f"{rows / sum(counts):.2%}"]
