"""Evaluates a run: bits per byte of held-out text beside compressors, and benchmark tasks. Writes WORKDIR/eval.json.

python launch/eval.py --gin configs/eval/held_out.gin --gin.Evaluate.run=runs/small --workdir runs/small/evaluation
"""

from mindllm_jax import configuration


def main() -> None:
    arguments = configuration.command_line(__doc__)

    import json

    import jax
    from rich.console import Console

    from mindllm_jax.evaluation.evaluate import Evaluate, evaluate, preview, results_table
    from mindllm_jax.files import write_text
    from mindllm_jax.parallel.startup import start
    from mindllm_jax.parallel.together import together
    from mindllm_jax.run_records import check_records, write_records

    config = configuration.load(Evaluate, arguments)
    start()
    if arguments.dry_run:
        Console().print(preview(config).terminal())
        return
    workdir = together(lambda: check_records(config, arguments))
    result = evaluate(config)
    if jax.process_index() == 0:
        write_records(config, workdir)
        write_text(workdir / "eval.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")
        label = "untrained" if config.untrained else f"step {result['step']}"
        Console().print(results_table({label: result}).terminal())


if __name__ == "__main__":
    configuration.run(main)
