"""Evaluates a run: bits per byte of held-out text, compressors as a baseline, and benchmark tasks.

Writes eval.json, report.md, results.json, samples_TASK.jsonl and prompts.html to WORKDIR, each part as it is done; the
same command again resumes from the answers in it.

python launch/eval.py --gin configs/eval/held_out.gin --gin.Evaluate.run=runs/small_bilingual \\
    --workdir runs/small_bilingual/evaluation
python launch/eval.py --gin configs/eval/paper.gin --gin.Evaluate.run=runs/small_bilingual \\
    --workdir runs/small_bilingual/paper
"""

from mindllm_jax import configuration


def main() -> None:
    """Evaluates and prints the results, or tabulates the work."""
    arguments = configuration.command_line(__doc__)

    import jax
    from rich.console import Console

    from mindllm_jax.evaluation.evaluate import Evaluate, evaluate, preview, require_all_tasks
    from mindllm_jax.evaluation.report import results_table
    from mindllm_jax.parallel.startup import start
    from mindllm_jax.training.compute_dtype import resolve_dtype
    from mindllm_jax.training.run_folder import run_folder

    config = configuration.load(Evaluate, arguments)
    start()
    if arguments.dry_run:
        Console().print(preview(config).terminal())
        return
    with run_folder(config, arguments) as (workdir, accept):
        result = evaluate(config, workdir, accept, resolve_dtype)
    if jax.process_index() == 0:
        label = "untrained" if config.untrained else f"step {result['step']}"
        Console().print(results_table({label: result}).terminal())
    require_all_tasks(result)


if __name__ == "__main__":
    configuration.run(main)
