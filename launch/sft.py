"""Tunes a pre-trained run on conversations; run again, it goes on from the newest checkpoint.

python launch/sft.py --gin configs/sft/general.gin --gin.Tune.base=runs/small --workdir runs/small_sft
"""

from mindllm_jax import configuration


def main() -> None:
    """Tunes and writes the report, or prints the cost."""
    arguments = configuration.command_line(__doc__)

    import jax
    import rich

    from mindllm_jax.instruct.tune import Tune, tune
    from mindllm_jax.parallel.startup import start
    from mindllm_jax.reporting.run import run_report

    config = configuration.load(Tune, arguments, {"Instructions.inputs": ()} if arguments.dry_run else {})
    start()
    if arguments.dry_run:
        rich.print(config.plan().cost.table().terminal())
        return
    leader = jax.process_index() == 0
    workdir = configuration.record(config, arguments, write=leader)
    tune(config, workdir)
    if leader:
        print(f"report: {run_report(workdir)}")


if __name__ == "__main__":
    configuration.run(main)
