"""Pre-trains a decoder on a token store; the same command resumes from the latest checkpoint.

python launch/train.py --gin configs/pretrain/small_bilingual.gin --workdir runs/small_bilingual
python launch/train.py --gin configs/pretrain/small_transfer.gin --print_schedule
"""

from mindllm_jax import configuration

PRINT_SCHEDULE = configuration.Flag("print_schedule", "print tokens and epochs of each source in the run, and stop")


def main() -> None:
    """Trains and writes the report; or checks the suite and prints the cost; or prints the schedule."""
    arguments = configuration.command_line(__doc__, flags=(PRINT_SCHEDULE,))

    from functools import partial

    import jax
    import rich

    from mindllm_jax.evaluation.bits_per_byte import held_out_bits, held_out_sources
    from mindllm_jax.evaluation.suite import load_suite, suite_periodic
    from mindllm_jax.mixture.report import mixture_report
    from mindllm_jax.parallel.startup import start
    from mindllm_jax.parallel.together import require_same, together
    from mindllm_jax.reporting.run import run_report
    from mindllm_jax.store.store import TokenStore
    from mindllm_jax.training.compute_dtype import resolve_dtype
    from mindllm_jax.training.loop import Periodic
    from mindllm_jax.training.pretrain import Pretrain, pretrain
    from mindllm_jax.training.run_folder import require_same_run, run_folder

    config = configuration.load(Pretrain, arguments, {"Mixture.store": "(none)"} if arguments.dry_run else {})
    start()
    if arguments.dry_run:
        load_suite(config.suite, config.model.max_seq_len)
        cost = config.spec(partial(resolve_dtype, measuring=False)).cost
        rich.print(cost.table().terminal())
        if warning := cost.warning():
            print(f"warning: {warning}")
        return
    store = together(lambda: TokenStore.open(config.data.store))
    loop = config.loop
    schedule = mixture_report(config.data, store, steps=loop.steps, global_batch_size=loop.global_batch_size)
    if "print_schedule" in arguments.switches:
        rich.print(schedule.table.terminal())
    measured = held_out_sources(store, config.data)
    nothing = "no source has held-out text, so bits per byte are not measured: raise PrepareData.held_out"
    if jax.process_index() == 0:
        warnings = [*schedule.warnings, *([] if measured else [nothing])]
        print(*(f"warning: {warning}\n" for warning in warnings), sep="", end="", flush=True)
    if "print_schedule" in arguments.switches:
        return
    require_same_run(config)  # first, as what follows asks other processes for what the settings say
    require_same(f"the token store {store.url}", store.manifest.to_json())
    held_out = [Periodic(loop.evaluate_every, held_out_bits(config.data, store))] if measured else []
    periodic = [*held_out, *suite_periodic(config.suite, store.tokenizer, config.model.max_seq_len)]
    with run_folder(config, arguments) as (workdir, accept):
        pretrain(config, store, workdir, periodic=periodic, accept=accept, resolve_model=resolve_dtype)
        if jax.process_index() == 0:
            print(f"report: {run_report(workdir)}")


if __name__ == "__main__":
    configuration.run(main, at_once=True)
