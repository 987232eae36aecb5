"""Writes a tokenizer for Hugging Face's libraries and checks that all ids are the same.

python launch/convert.py --gin.Convert.tokenizer=runs/tokenizer/tokenizer.model \\
    --gin.Convert.output=runs/tokenizer/hf --gin.Convert.check_on="('runs/corpus/zh', 'runs/corpus/en')"
"""

from mindllm_jax import configuration


def main() -> None:
    """Converts and prints the comparison; a dry run prints the paths."""
    arguments = configuration.command_line(__doc__)
    import rich

    from mindllm_jax.interop.convert import Convert, convert
    from mindllm_jax.run_records import check_records, write_records

    config = configuration.load(Convert, arguments, {"Convert.output": "(none)"} if arguments.dry_run else {})
    if arguments.dry_run:
        print(f"{config.tokenizer} to {config.output}, checked on {config.check_lines:,} lines")
        return
    if arguments.workdir:
        check_records(config, arguments)
    rich.print(convert(config).terminal())
    if arguments.workdir:
        write_records(config, arguments.workdir)
    print(f"{config.output}: transformers.AutoTokenizer.from_pretrained loads it")


if __name__ == "__main__":
    configuration.run(main)
