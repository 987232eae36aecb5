"""Tokenizes document files into a token store; run again, it goes on with the sources that are not there yet.

python launch/prepare_data.py --gin.PrepareData.inputs="('runs/corpus/zh', 'runs/corpus/en')" \\
    --gin.PrepareData.tokenizer=runs/tokenizer/tokenizer.model --gin.PrepareData.store=runs/store
"""

from mindllm_jax import configuration


def main() -> None:
    """Writes the store and prints what is in it, or says what it would read."""
    arguments = configuration.command_line(__doc__)
    import rich

    from mindllm_jax.data.prepare import PrepareData, inputs_table, prepare_data, store_table

    config = configuration.load(PrepareData, arguments)
    if arguments.dry_run:
        rich.print(inputs_table(config).terminal())
        return
    if arguments.workdir:
        configuration.record(config, arguments)
    prepared = prepare_data(config)
    rich.print(store_table(prepared).terminal())
    for reason, lines in prepared.skipped.items():
        print(f"left out: {lines:,} lines: {reason}")


if __name__ == "__main__":
    configuration.run(main)
