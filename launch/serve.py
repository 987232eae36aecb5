"""Serves a run: a chat page in the browser, and an OpenAI-compatible API at /v1.

python launch/serve.py --gin.Serve.run=runs/small_bilingual_sft
MINDLLM_API_KEY=secret python launch/serve.py --gin.Serve.run=runs/small_bilingual_sft --gin.Serve.host=0.0.0.0
"""

from mindllm_jax import configuration


def main() -> None:
    """Loads the run, compiles its programs and serves until Ctrl-C; a dry run prints what it would load."""
    arguments = configuration.command_line(__doc__)

    import threading
    import webbrowser
    from pathlib import Path

    from mindllm_jax.generation.scheduler import Scheduler
    from mindllm_jax.parallel.startup import start
    from mindllm_jax.serving.guard import api_key
    from mindllm_jax.serving.served_model import ServedModel
    from mindllm_jax.serving.server import Serve, Server, bind, check_installed, listen, url
    from mindllm_jax.training.load_run import load_decoder, read_run

    config = configuration.load(Serve, arguments)
    start()
    key = api_key(config.host)
    record = read_run(Path(config.run))
    if arguments.dry_run:
        print(f"{record.folder}: {record.model}")
        print(f"at {config.host}:{config.port}, {'with' if key else 'without'} an API key; {config.batching}")
        return
    check_installed()
    bound = bind(config)
    run = load_decoder(record)
    scheduler = Scheduler(run.decoder, run.tokenizer, config.batching)
    model = ServedModel.of(Path(config.run), record.folder, run.tokenizer, scheduler.capacity, config.sampling)
    server = Server(config, model, scheduler, key)
    print(f"compiling the programs of {model.name} …", flush=True)
    scheduler.warm_up()
    listen(bound)
    print(f"{model.name}: {url(bound)} is the chat page, {url(bound)}/v1 the API; Ctrl-C ends it", flush=True)
    if config.browser:
        threading.Thread(target=webbrowser.open, args=(url(bound),), daemon=True).start()  # some wait for the page
    server.run(bound)


if __name__ == "__main__":
    configuration.run(main, interrupted="interrupted")
