"""Cleans raw text, if CleanCorpus.inputs name some, and tokenizes documents into a token store.

Where Scoring.run names a model, what is clean is chosen by its bits per token before.
Run again, it goes on with the shards and sources that are not there yet.
python launch/prepare_data.py --gin configs/data/real_bilingual.gin
python launch/prepare_data.py --gin.PrepareData.inputs="('runs/corpus/zh', 'runs/corpus/en')" \\
    --gin.PrepareData.tokenizer=runs/tokenizer/tokenizer.model --gin.PrepareData.store=runs/store

With --thresholds it writes a page beside a corpus: documents just kept and just dropped by each rule of quality.
"""

from dataclasses import replace
from functools import partial

from mindllm_jax import configuration

THRESHOLDS = configuration.Flag("thresholds", "write a page of documents at the edge of each rule of quality, and stop")


def main() -> None:
    """Writes the store and prints what is in it, or says what it would read."""
    arguments = configuration.command_line(__doc__, flags=(THRESHOLDS,))
    import rich

    from mindllm_jax.run_records import check_records, write_records
    from mindllm_jax.store.prepare import PrepareData, clean, inputs_table, prepare_data, store_table

    unread = {"PrepareData.tokenizer": "(none)", "PrepareData.store": "(none)"} if arguments.dry_run else {}
    config = configuration.load(PrepareData, arguments, unread)
    if "thresholds" in arguments.switches:
        from mindllm_jax.corpus.report.borderline import write_thresholds

        print(write_thresholds(config.corpus))
        return
    if arguments.dry_run:
        rich.print(inputs_table(config).terminal())
        return
    if arguments.workdir:
        check_records(config, arguments)
    corpus, load = config.corpus, None
    if corpus.scoring.run:
        from mindllm_jax.evaluation.perplexity import load_scorer, with_checkpoint

        corpus = replace(corpus, scoring=with_checkpoint(corpus.scoring))
        load = partial(load_scorer, corpus.scoring)
    if not clean(corpus, load):
        print("submitted to Slurm (see squeue); run the same command again when the jobs are done")
        return
    prepared = prepare_data(config)
    if arguments.workdir:
        write_records(config, arguments.workdir)
    rich.print(store_table(prepared).terminal())
    for reason, lines in prepared.skipped.items():
        print(f"left out: {lines:,} lines: {reason}")


if __name__ == "__main__":
    configuration.run(main)
