"""Scores instruction data by a base model's losses and entropies, and writes a selection of it.

An interrupted command resumes from its last shard of scores. Writes WORKDIR/selection.jsonl, which sft.py takes,
tables.md, selection.html and refused.jsonl.

python launch/select_instructions.py --gin configs/instruct/select.gin \\
    --gin.SelectInstructions.run=runs/small_bilingual --gin.SelectInstructions.inputs="('DIR',)" \\
    --workdir runs/small_bilingual_selection
"""

from mindllm_jax import configuration


def main() -> None:
    """Scores and selects, or tabulates the work."""
    arguments = configuration.command_line(__doc__)

    import jax
    import rich

    from mindllm_jax.instruct.selection.select import preview, score, select
    from mindllm_jax.instruct.selection.settings import SelectInstructions
    from mindllm_jax.parallel.startup import start
    from mindllm_jax.training.compute_dtype import resolve_dtype
    from mindllm_jax.training.run_folder import run_folder

    config = configuration.load(SelectInstructions, arguments)
    start()
    if arguments.dry_run:
        rich.print(preview(config).terminal())
        return
    with run_folder(config, arguments) as (workdir, accept):
        scored = score(config, workdir, accept, resolve_dtype)
        if jax.process_index() == 0:
            rich.print(select(config, workdir, scored).terminal())
            print(f"selection: {workdir / 'selection.jsonl'}; page: {workdir / 'selection.html'}")


if __name__ == "__main__":
    configuration.run(main)
