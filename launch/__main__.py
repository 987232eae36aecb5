"""Runs an entry point by name: `mindllm train --gin FILE` is `python launch/train.py --gin FILE`."""

import ast
import runpy
import sys
from pathlib import Path

from mindllm_jax.checks import suggestion

# In the order of their use. The others need a clone: its configs, or its benchmarks.
COMMANDS = (
    "doctor", "clean_corpus", "collect_code", "train_tokenizer", "prepare_data", "train", "prepare_instructions",
    "rationales", "select_instructions", "sft", "classify", "rank_answers", "prepare_benchmarks", "eval", "chat",
    "serve", "convert", "plan",
)  # fmt: skip


def usage() -> str:
    """Returns every command with the first line of its entry point's docstring."""
    lines = ["usage: mindllm COMMAND [--help] [--gin FILE] [--gin.NAME=VALUE] …", ""]
    for name in COMMANDS:
        text = ast.get_docstring(ast.parse(Path(__file__).with_name(f"{name}.py").read_text("utf-8"))) or ""
        lines.append(f"  {name:<20} {text.splitlines()[0]}")
    return "\n".join(lines)


def main() -> None:
    """Hands the rest of the command line to the entry point; exits with status 2 for one that does not exist."""
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(usage())
        return
    if name == "--version":
        from mindllm_jax import __version__

        print(f"mindllm-jax {__version__}")
        return
    if name not in COMMANDS:
        hint = suggestion(name, COMMANDS) or "; `mindllm --help` lists the commands"
        print(f"error: mindllm has no command {name!r}{hint}", file=sys.stderr)
        sys.exit(2)
    sys.argv = [f"mindllm {name}", *rest]
    runpy.run_module(f"mindllm_jax.launch.{name}", run_name="__main__")


if __name__ == "__main__":
    main()
