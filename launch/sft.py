"""Tunes a pre-trained run on conversations; the same command resumes from the latest checkpoint.

python launch/sft.py --gin configs/sft/small_bilingual.gin --gin.Tune.base=runs/small_bilingual \\
    --workdir runs/small_bilingual_sft
"""

from mindllm_jax import configuration


def main() -> None:
    """Tunes and writes the report; or checks the suite and prints the cost."""
    arguments = configuration.command_line(__doc__)

    from functools import partial

    import jax
    import rich

    from mindllm_jax.evaluation.forgetting import tuning_measurements
    from mindllm_jax.evaluation.suite import load_suite
    from mindllm_jax.instruct.tune import Tune, tune
    from mindllm_jax.parallel.startup import start
    from mindllm_jax.reporting.run import run_report
    from mindllm_jax.training.compute_dtype import resolve_dtype
    from mindllm_jax.training.run_folder import require_same_run, run_folder

    config = configuration.load(Tune, arguments, {"Instructions.inputs": ()} if arguments.dry_run else {})
    start()
    if arguments.dry_run:
        spec = config.spec(partial(resolve_dtype, measuring=False))
        load_suite(config.suite, spec.model.max_seq_len)
        rich.print(spec.cost.table().terminal())
        if warning := spec.cost.warning():
            print(f"warning: {warning}")
        return
    require_same_run(config)  # first, as what follows asks other processes for what the settings say
    periodic = tuning_measurements(config)
    with run_folder(config, arguments) as (workdir, accept):
        tune(config, workdir, periodic, accept, resolve_dtype)
        if jax.process_index() == 0:
            print(f"report: {run_report(workdir)}")


if __name__ == "__main__":
    configuration.run(main, at_once=True)
