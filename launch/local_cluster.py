"""Runs a command as several processes on this machine, like a cluster; every process has its own CPU devices.

python launch/local_cluster.py --processes 2 --devices 4 -- python launch/train.py --gin FILE --workdir DIR
"""

import argparse
import os
import socket
import sys

from mindllm_jax.parallel.local_processes import run_processes


def main() -> int:
    """Runs the processes; exits with the status of the first that fails, or 127 if the command cannot be run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2, metavar="P")
    parser.add_argument("--devices", type=int, default=1, metavar="D", help="CPU devices of each process")
    parser.add_argument("command", nargs="+", help="after --: the command")
    arguments = parser.parse_args()
    if min(arguments.processes, arguments.devices) < 1:
        parser.error("--processes and --devices must be at least 1")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    environments = [_environment(arguments, address, index) for index in range(arguments.processes)]
    try:
        return run_processes(arguments.command, environments)
    except OSError as error:
        print(f"error: {arguments.command[0]} cannot be run: {error.strerror}", file=sys.stderr)
        return 127


def _environment(arguments: argparse.Namespace, address: str, index: int) -> dict[str, str]:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={arguments.devices}"
    return os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": flags.strip(),
        "MINDLLM_COORDINATOR": address,
        "MINDLLM_PROCESSES": str(arguments.processes),
        "MINDLLM_PROCESS": str(index),
    }


if __name__ == "__main__":
    sys.exit(main())
