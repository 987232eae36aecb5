"""Writes a tokenizer for Hugging Face's libraries and checks that no id changed, text by text.

python launch/convert.py --gin.Convert.tokenizer=runs/tokenizer/tokenizer.model \\
    --gin.Convert.output=runs/tokenizer/hf --gin.Convert.check_on="('runs/corpus/zh', 'runs/corpus/en')"
"""

from mindllm_jax import configuration


def main() -> None:
    """Converts and prints what was compared, or says what it would write."""
    arguments = configuration.command_line(__doc__)
    import rich

    from mindllm_jax.interop.convert import Convert, convert

    config = configuration.load(Convert, arguments, {"Convert.output": "(none)"} if arguments.dry_run else {})
    if arguments.dry_run:
        print(f"{config.tokenizer} to {config.output}, checked on {config.check_lines:,} lines")
        return
    if arguments.workdir:
        configuration.record(config, arguments)
    rich.print(convert(config).terminal())
    print(f"{config.output}: transformers.AutoTokenizer.from_pretrained loads it")


if __name__ == "__main__":
    configuration.run(main)
