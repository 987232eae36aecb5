"""Cleans raw text of any format into documents with a data card; with Scoring.run, also chooses some by their score.

Every stage is resumable: run the same command again, also when jobs on Slurm are done.
python launch/clean_corpus.py --gin configs/data/real_bilingual.gin --gin.CleanCorpus.inputs="('DIR',)" \\
    --gin.Decontamination.benchmarks=EVAL

launch/prepare_data.py then tokenizes the documents: set PrepareData.corpus to CleanCorpus.output or Scoring.output.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

from mindllm_jax import configuration

BORDERLINE = configuration.Flag("borderline", "write a page of documents near the limit of each quality rule, and stop")


def main() -> None:
    """Cleans the corpus, or prints the stages with --dry_run."""
    arguments = configuration.command_line(__doc__, flags=(BORDERLINE,))
    import rich

    from mindllm_jax.corpus.settings import CleanCorpus
    from mindllm_jax.run_records import check_records, write_records

    config = configuration.load(CleanCorpus, arguments)
    try:
        from mindllm_jax.corpus.pipeline import clean_corpus, stages_table
        from mindllm_jax.corpus.report.borderline import write_borderline
        from mindllm_jax.corpus.report.card import card_once
        from mindllm_jax.corpus.report.collect import collect
        from mindllm_jax.corpus.scoring import score_corpus
    except ImportError as error:
        raise ImportError(f"cleaning raw files needs {error.name}: pip install 'mindllm-jax[data]'") from error

    if "borderline" in arguments.switches:
        print(write_borderline(config))
        return
    if arguments.dry_run:
        rich.print(stages_table(config).terminal())
        return
    if arguments.workdir:
        check_records(config, arguments)
    score = None
    if config.scoring.run:
        from mindllm_jax.evaluation.perplexity import load_scorer, resolve_checkpoint

        scoring = resolve_checkpoint(config.scoring)
        score = partial(score_corpus, replace(config, scoring=scoring), partial(load_scorer, scoring))
    output, chosen = Path(config.output), Path(config.scoring.output)
    finished = clean_corpus(config)
    if finished:
        print(card_once(output, partial(collect, output)))
    if finished and score:
        finished = score()
        if finished:
            print(card_once(chosen, partial(collect, output, chosen=chosen)))
    if not finished:
        print("submitted to Slurm (see squeue); run the same command again when the jobs are done")
        return
    if arguments.workdir:
        write_records(config, arguments.workdir)


if __name__ == "__main__":
    configuration.run(main)
