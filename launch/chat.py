"""Answers one prompt, or chats in the terminal, with a tuned run; continues texts with a pre-trained one.

python launch/chat.py --gin.Chat.run=runs/small_bilingual_sft --gin.Chat.prompt='What is a glacier?'
python launch/chat.py --gin.Chat.run=runs/small_bilingual --gin.Chat.mode=continue --gin.Sampling.temperature=0
"""

from mindllm_jax import configuration


def main() -> None:
    """Loads the run and answers; a dry run prints the model that it would load."""
    arguments = configuration.command_line(__doc__)

    from pathlib import Path

    from mindllm_jax.generation.chat import Chat, Session
    from mindllm_jax.generation.terminal import read_input, strip_control_chars, talk
    from mindllm_jax.parallel.startup import start
    from mindllm_jax.training.load_run import load_decoder, read_run

    config = configuration.load(Chat, arguments)
    start()
    if arguments.dry_run:
        record = read_run(Path(config.run))
        print(f"{record.folder}: {record.model}")
        return
    session = Session(load_decoder(Path(config.run)), config)

    def write(text: str) -> None:
        print(strip_control_chars(text), end="", flush=True)

    if config.prompt is None:
        talk(session, read_input("> "), write)
        return
    for piece in session.reply(config.prompt):
        write(piece)
    print()


if __name__ == "__main__":
    configuration.run(main, interrupted="interrupted")
