"""Tokenizes documents into a token store: those of a cleaned corpus (PrepareData.corpus) or JSON lines of yours.

Sources that are in the store already are kept: run the same command again to resume, or to add sources.
python launch/prepare_data.py --gin configs/data/real_bilingual.gin
python launch/prepare_data.py --gin.PrepareData.inputs="('DIR/zh', 'DIR/en')" \\
    --gin.PrepareData.tokenizer=runs/tokenizer/tokenizer.model --gin.PrepareData.store=runs/store
"""

from mindllm_jax import configuration


def main() -> None:
    """Writes the store and prints its sources, or prints the sources of the inputs with --dry_run."""
    arguments = configuration.command_line(__doc__)
    import rich

    from mindllm_jax.run_records import check_records, write_records
    from mindllm_jax.store.prepare import PrepareData, inputs_table, prepare_data, store_table

    unread = {"PrepareData.tokenizer": "(none)", "PrepareData.store": "(none)"} if arguments.dry_run else {}
    config = configuration.load(PrepareData, arguments, unread)
    if arguments.dry_run:
        rich.print(inputs_table(config).terminal())
        return
    if arguments.workdir:
        check_records(config, arguments)
    prepared = prepare_data(config)
    if arguments.workdir:
        write_records(config, arguments.workdir)
    rich.print(store_table(prepared).terminal())
    for reason, count in prepared.skipped.items():
        print(f"skipped: {count:,} x {reason}")


if __name__ == "__main__":
    configuration.run(main)
