"""Cleans raw text, if CleanCorpus.inputs name some, and tokenizes documents into a token store.

Where Scoring.run names a model, what is clean is chosen by its bits per token before.
Run again, it goes on with the shards and sources that are not there yet.
python launch/prepare_data.py --gin configs/data/real_bilingual.gin
python launch/prepare_data.py --gin.PrepareData.inputs="('runs/corpus/zh', 'runs/corpus/en')" \\
    --gin.PrepareData.tokenizer=runs/tokenizer/tokenizer.model --gin.PrepareData.store=runs/store

With --plan it writes nothing and prints what a run would read of the store it names: tokens and epochs of each source.
python launch/prepare_data.py --plan --gin configs/pretrain/small_bilingual.gin

With --thresholds it writes a page beside a corpus: documents just kept and just dropped by each rule of quality.
"""

import sys
from dataclasses import replace
from functools import partial

from mindllm_jax import configuration


def main() -> None:
    """Writes the store and prints what is in it, says what it would read, or what a run would read of it."""
    words = [word for word in sys.argv[1:] if word not in ("--plan", "--thresholds")]
    arguments = configuration.command_line(__doc__, words)
    if "--plan" in sys.argv:
        plan(arguments)
        return
    import rich

    from mindllm_jax.data.prepare import PrepareData, clean, inputs_table, prepare_data, store_table
    from mindllm_jax.run_records import check_records, write_records

    unread = {"PrepareData.tokenizer": "(none)", "PrepareData.store": "(none)"} if arguments.dry_run else {}
    config = configuration.load(PrepareData, arguments, unread)
    if "--thresholds" in sys.argv:
        from mindllm_jax.corpus.thresholds import write_thresholds

        print(write_thresholds(config.corpus))
        return
    if arguments.dry_run:
        rich.print(inputs_table(config).terminal())
        return
    if arguments.workdir:
        check_records(config, arguments)
    corpus, load = config.corpus, None
    if corpus.scoring.run:
        from mindllm_jax.evaluation.surprise import load_surprise, pinned

        corpus = replace(corpus, scoring=pinned(corpus.scoring))
        load = partial(load_surprise, corpus.scoring)
    if not clean(corpus, load):
        print("submitted to Slurm (see squeue); run the same command again when the jobs are done")
        return
    prepared = prepare_data(config)
    if arguments.workdir:
        write_records(config, arguments.workdir)
    rich.print(store_table(prepared).terminal())
    for reason, lines in prepared.skipped.items():
        print(f"left out: {lines:,} lines: {reason}")


def plan(arguments: configuration.Arguments) -> None:
    """Prints what a pre-training run would read."""
    import rich

    from mindllm_jax.data.mixture_plan import plan_mixture
    from mindllm_jax.data.store import TokenStore
    from mindllm_jax.training.pretrain import Pretrain

    config = configuration.load(Pretrain, arguments)
    store = TokenStore.open(config.data.store)
    planned = plan_mixture(config.data, store, steps=config.loop.steps, batch_rows=config.loop.batch_rows)
    rich.print(planned.table.terminal())
    for warning in planned.warnings:
        print(f"warning: {warning}")


if __name__ == "__main__":
    configuration.run(main)
