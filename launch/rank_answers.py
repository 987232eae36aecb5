"""Ranks several runs by a judge of their answers to the same prompts: Elo ratings with 95% intervals.

The judge is an OpenAI-compatible endpoint, the likelihood under a run, or a file of people's choices. Answers and
verdicts are kept in the workdir, and the same command asks for what is missing. --dry_run prints how much that is.

python launch/rank_answers.py --gin configs/sft/rank.gin --gin.Judge.model=NAME --workdir runs/ranking \\
    --gin.RankAnswers.runs="{'base': 'runs/base', 'tuned': 'runs/tuned'}" --gin.RankAnswers.prompts="('eval.jsonl',)"
"""

from mindllm_jax import configuration


def main() -> None:
    """Prints the cost, and without --dry_run answers, judges, prints the ratings and writes ranking.json."""
    arguments = configuration.command_line(__doc__)
    import jax
    import rich

    from mindllm_jax.instruct.ranking.rank import cost, open_ranking, rank
    from mindllm_jax.instruct.ranking.report import judge_table, ranking_table, write_ranking
    from mindllm_jax.instruct.ranking.settings import RankAnswers
    from mindllm_jax.parallel.startup import start
    from mindllm_jax.run_records import check_records, write_records

    config = configuration.load(RankAnswers, arguments)
    workdir = check_records(config, arguments)
    ranking = open_ranking(config, workdir)
    print(cost(ranking))
    if arguments.dry_run:
        return
    start()
    if jax.process_count() > 1:
        raise ValueError(f"{jax.process_count()} processes were started: a ranking is made by one")
    write_records(config, workdir)
    result = rank(ranking)
    rich.print(ranking_table(result).terminal(), judge_table(result).terminal(), result["note"])
    print(f"ranking: {write_ranking(result, workdir)}")


if __name__ == "__main__":
    configuration.run(main)
