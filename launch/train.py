"""Pre-trains a decoder on a token store; run again, it goes on from the newest checkpoint.

python launch/train.py --gin configs/pretrain/small_bilingual.gin --workdir runs/small
"""

from mindllm_jax import configuration


def main() -> None:
    """Trains, writes the report, or prints the cost."""
    arguments = configuration.command_line(__doc__)

    import jax
    import rich

    from mindllm_jax.data.store import TokenStore
    from mindllm_jax.evaluation.bits_per_byte import held_out_bits
    from mindllm_jax.parallel.startup import start
    from mindllm_jax.reporting.run import run_report
    from mindllm_jax.training.loop import Every
    from mindllm_jax.training.pretrain import Pretrain, pretrain

    config = configuration.load(Pretrain, arguments, {"Mixture.store": "(none)"} if arguments.dry_run else {})
    start()
    if arguments.dry_run:
        rich.print(config.plan().cost.table().terminal())
        return
    store = TokenStore.open(config.data.store)
    leader = jax.process_index() == 0
    workdir = configuration.record(config, arguments, write=leader)
    held_out = Every(config.loop.evaluate_every, held_out_bits(config.data, store))
    pretrain(config, store, workdir, every=[held_out])
    if leader:
        print(f"report: {run_report(workdir)}")


if __name__ == "__main__":
    configuration.run(main)
