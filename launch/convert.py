"""Published weights to a run, a run to a folder for transformers, a tokenizer to its files; each with a proof.

python launch/convert.py --gin configs/interop/smollm2.gin --workdir runs/smollm2
python launch/convert.py --gin.Convert.source=FOLDER_OR_GGUF --workdir runs/imported
python launch/convert.py --gin.Convert.run=runs/small_bilingual --gin.Convert.output=runs/small_bilingual/hf
python launch/convert.py --gin.Convert.adapters=runs/lora --gin.Convert.base=runs/small_bilingual/hf \\
    --gin.Convert.output=runs/lora/peft
python launch/convert.py --gin.Convert.check=runs/small_bilingual/hf
python launch/convert.py --gin.Convert.tokenizer=runs/tokenizer/tokenizer.model \\
    --gin.Convert.output=runs/tokenizer/hf --gin.Convert.check_on="('runs/corpus/zh', 'runs/corpus/en')"
"""

from mindllm_jax import configuration


def main() -> None:
    """Converts and prints the comparison; a dry run prints the paths."""
    arguments = configuration.command_line(__doc__)
    from pathlib import Path

    import rich

    from mindllm_jax.interop.convert import Convert, convert
    from mindllm_jax.interop.import_run import import_run
    from mindllm_jax.parallel.startup import start
    from mindllm_jax.run_records import check_records, resolved, write_records
    from mindllm_jax.training.run_folder import run_folder

    config = configuration.load(Convert, arguments)
    if arguments.dry_run:
        print(config.summary)
        return
    start()
    if config.source:
        with run_folder(config, arguments) as (workdir, accept):
            model = import_run(Path(config.source), workdir, resolved(config), accept)
            print(f"{workdir}: a run of {model.layers} layers of width {model.width}; chat, eval and sft take it")
        return
    if arguments.workdir:
        check_records(config, arguments)
    rich.print(convert(config).terminal())
    if arguments.workdir:
        write_records(config, arguments.workdir)
    if config.output:
        loaders = {"run": "transformers.AutoModelForCausalLM", "adapters": "peft.PeftModel"}
        loader = next((name for kind, name in loaders.items() if getattr(config, kind)), "transformers.AutoTokenizer")
        print(f"{config.output}: {loader}.from_pretrained loads it")


if __name__ == "__main__":
    configuration.run(main)
