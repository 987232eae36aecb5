"""Scores a tuned run on labelled conversations: accuracy and weighted F1 of its greedy answers.

python launch/classify.py --gin.Classify.run=runs/finance_sft --gin.Labels.inputs="('runs/data/finance_eval',)" \\
    --workdir runs/finance_sft/labels
"""

from mindllm_jax import configuration


def main() -> None:
    """Answers, prints the scores and writes scores.json, or prints the number of rows with --dry_run."""
    arguments = configuration.command_line(__doc__)
    from pathlib import Path

    import rich

    from mindllm_jax.instruct.domains.classify import Classify, classify, scores_table, write_result
    from mindllm_jax.instruct.domains.labels import read_labelled
    from mindllm_jax.parallel.startup import start
    from mindllm_jax.run_records import check_records, write_records
    from mindllm_jax.training.load_run import load_decoder

    config = configuration.load(Classify, arguments)
    start()
    labelled = read_labelled(config.labels)
    if arguments.dry_run:
        print(f"{len(labelled.rows)} rows of {len(labelled.labels)} labels for {config.run}")
        return
    workdir = check_records(config, arguments)
    loaded = load_decoder(Path(config.run))
    result = classify(config, loaded, labelled)
    write_records(config, workdir, loaded.model.dtype.name)
    rich.print(scores_table(result).terminal())
    print(f"scores: {write_result(result, workdir)}")


if __name__ == "__main__":
    configuration.run(main)
