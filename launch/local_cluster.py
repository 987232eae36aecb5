"""Runs a command as several processes on this machine, as a cluster would; every process sees its own CPU devices.

python launch/local_cluster.py --processes 2 --devices 4 -- python launch/train.py --gin FILE --workdir DIR
"""

import argparse
import os
import socket
import subprocess
import sys


def main() -> int:
    """Starts the processes and returns the first status that is not 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2, metavar="P")
    parser.add_argument("--devices", type=int, default=1, metavar="D", help="CPU devices of each process")
    parser.add_argument("command", nargs="+", help="after --: the command")
    arguments = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    running = [
        subprocess.Popen(arguments.command, env=_environment(arguments, address, index))
        for index in range(arguments.processes)
    ]
    try:
        statuses = [process.wait() for process in running]
    except KeyboardInterrupt:  # the processes got the signal too and save before they stop
        statuses = [process.wait() for process in running]
    return next((status for status in statuses if status), 0)


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
