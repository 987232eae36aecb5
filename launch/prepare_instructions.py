"""Writes a domain's records as conversations: label only, chain of thought, or labels and rationales as two tasks.

python launch/prepare_instructions.py --gin configs/sft/medicine.gin
python launch/prepare_instructions.py --gin configs/sft/finance.gin --gin.PrepareInstructions.setup=auxiliary
"""

from mindllm_jax import configuration


def main() -> None:
    """Writes the datasets and prints their sizes, or prints what would be written with --dry_run."""
    arguments = configuration.command_line(__doc__)
    import rich

    from mindllm_jax.instruct.domains.prepare import PrepareInstructions, prepare_instructions
    from mindllm_jax.run_records import check_records, write_records

    config = configuration.load(PrepareInstructions, arguments)
    if arguments.dry_run:
        print(f"{', '.join(config.inputs)} to {config.output}/{config.name}.jsonl.gz, set-up {config.setup}")
        return
    if arguments.workdir:
        check_records(config, arguments)
    rich.print(prepare_instructions(config).terminal())
    if arguments.workdir:
        write_records(config, arguments.workdir)


if __name__ == "__main__":
    configuration.run(main)
