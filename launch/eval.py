"""Evaluates a run: bits per byte of held-out text, compressors as a baseline, and benchmark tasks.

Writes the results to WORKDIR/eval.json after each part.

python launch/eval.py --gin configs/eval/held_out.gin --gin.Evaluate.run=runs/small --workdir runs/small/evaluation
"""

from mindllm_jax import configuration


def main() -> None:
    """Evaluates and prints the results, or tabulates the work."""
    arguments = configuration.command_line(__doc__)

    import json
    from typing import Any

    import jax
    from rich.console import Console

    from mindllm_jax.evaluation.evaluate import Evaluate, evaluate, preview, results_table
    from mindllm_jax.files import write_text
    from mindllm_jax.parallel.startup import start
    from mindllm_jax.parallel.together import together
    from mindllm_jax.run_records import check_records, write_records
    from mindllm_jax.training.compute_dtype import resolve_dtype

    config = configuration.load(Evaluate, arguments)
    start()
    if arguments.dry_run:
        Console().print(preview(config).terminal())
        return
    leader = jax.process_index() == 0
    workdir = together(lambda: check_records(config, arguments))
    measured: dict[str, dict[str, Any]] = {}

    def keep(result: dict[str, Any]) -> None:
        if leader and not measured:
            write_records(config, workdir, result["compute_dtype"])
        measured["untrained" if config.untrained else f"step {result['step']}"] = result
        if leader:
            write_text(workdir / "eval.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")

    try:
        evaluate(config, keep, resolve_dtype)
    finally:
        if leader and measured:
            Console().print(results_table(measured).terminal())


if __name__ == "__main__":
    configuration.run(main)
