"""Trains a SentencePiece BPE tokenizer on a sample balanced between the languages, or adds Chinese to GPT-2's.

Reports bytes per token, the share of characters that are pieces, and the share of tokens that are bytes, by source.

python launch/train_tokenizer.py --gin.TrainTokenizer.inputs="('runs/corpus/zh', 'runs/corpus/en')" \\
    --gin.TrainTokenizer.output=runs/tokenizer/tokenizer.model --gin.TrainTokenizer.vocab_size=16384
"""

from mindllm_jax import configuration


def main() -> None:
    """Trains and prints the report, or the size of its inputs."""
    arguments = configuration.command_line(__doc__)
    import rich

    from mindllm_jax.run_records import check_records, write_records
    from mindllm_jax.text.input_files import input_files
    from mindllm_jax.tokenization.report import report_table
    from mindllm_jax.tokenization.training import TrainTokenizer, train_tokenizer

    config = configuration.load(
        TrainTokenizer, arguments, {"TrainTokenizer.output": "(none).model"} if arguments.dry_run else {}
    )
    if arguments.dry_run:
        files = input_files(config.inputs)
        size = sum(file.stat().st_size for file in files)
        print(
            f"{len(files)} files of {size:,} bytes, a sample of {config.sample_bytes:,}, {config.vocab_size:,} pieces"
        )
        return
    if arguments.workdir:
        check_records(config, arguments)
    tokenizer, report = train_tokenizer(config)
    if arguments.workdir:
        write_records(config, arguments.workdir)
    rich.print(report_table(report).terminal())
    print("longest pieces of Han text:", *report["longest_han_pieces"][:8], sep="  ")
    print(f"{tokenizer.path}  sha256 {tokenizer.sha256}")


if __name__ == "__main__":
    configuration.run(main)
