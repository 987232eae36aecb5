"""Runs a command as several processes on this machine, as a cluster would; every process sees its own CPU devices.

python launch/local_cluster.py --processes 2 --devices 4 -- python launch/train.py --gin FILE --workdir DIR
"""

import argparse
import math
import os
import socket
import subprocess
import sys
import time

GRACE = 5


def main() -> int:
    """Starts the processes; the status is that of the first that fails."""
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
    while True:
        try:
            return _wait(running)
        except KeyboardInterrupt:  # the processes got the signal too and save before they stop
            continue


def _wait(running: list[subprocess.Popen[bytes]]) -> int:
    """Waits for all; returns the status of the first that failed, or 0.

    The others may wait for a failed one for ever: soon after it they are stopped.
    """
    status, stop_at = 0, math.inf
    while None in [process.poll() for process in running]:
        failed = [number for number, process in enumerate(running) if process.returncode]
        if failed and not status:
            status, stop_at = running[failed[0]].returncode, time.monotonic() + GRACE
            print(f"process {failed[0]} failed; the others are stopped in {GRACE} s", file=sys.stderr)
        if time.monotonic() > stop_at:
            for process in running:
                process.kill()
        time.sleep(0.1)
    return status or next((process.returncode for process in running if process.returncode), 0)


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
