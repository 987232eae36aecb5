"""Rendezvous: all processes of a run meet over plain TCP, so that missing ones can be named.

jax.distributed cannot name them: its client ends the process from C++ with a stack trace.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket

from mindllm_jax.parallel.hosts import ProcessGroup

GRACE = 5.0  # seconds by which the others outwait process 0, which alone knows all of them
RETRY = 0.2  # seconds between attempts to connect to process 0
SHOWN = 16  # processes that a message lists
LONGEST = 2**24  # bytes of the list of all processes
ADVICE = "See the logs of the missing processes and of the launcher; MINDLLM_START_LIMIT=SECONDS waits longer"


def rendezvous(group: ProcessGroup, limit: float) -> None:
    """Returns when all processes of the run have joined.

    limit: seconds that process 0 waits for the others, and they for process 0. The port is free again afterwards.

    Raises TimeoutError, in every process that did join, with the processes and hosts that did not; OSError when process
    0 cannot open its port.
    """
    asyncio.run(_wait_for_all(group, limit) if group.index == 0 else _join(group, limit))


async def _wait_for_all(group: ProcessGroup, limit: float) -> None:
    """Process 0: waits for the others, then sends all of them the list of those that joined."""
    joined, others = {0: socket.gethostname()}, dict[int, asyncio.StreamWriter]()
    complete = asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ValueError, KeyError, TypeError, OSError):  # an unrelated connection
            hello = json.loads(await reader.readline())
            index = int(hello["process"])
            if index in joined or not 0 < index < len(group.hosts):
                raise ValueError
            joined[index], others[index] = str(hello["host"]), writer
            if len(joined) == len(group.hosts):
                complete.set()
            try:
                await reader.read()
            finally:
                # A process that disconnects before all have joined has not joined.
                if not complete.is_set():
                    del joined[index], others[index]
        writer.close()

    port = int(group.address.rpartition(":")[2])
    server = await asyncio.start_server(accept, sock=_listen(port))
    try:
        await asyncio.wait_for(complete.wait(), limit)
    except TimeoutError:
        raise TimeoutError(_missing(group, joined, limit)) from None
    finally:
        # Closed before the others continue: they connect to this port again, through jax.
        server.close()
        message = json.dumps(list(joined.items())).encode() + b"\n"
        for writer in list(others.values()):
            writer.write(message)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def _listen(port: int) -> socket.socket:
    both = socket.has_dualstack_ipv6()
    try:
        return socket.create_server(
            ("", port), family=socket.AF_INET6 if both else socket.AF_INET, dualstack_ipv6=both, backlog=4096
        )
    except OSError as error:
        raise OSError(
            f"process 0 cannot open port {port} of {socket.gethostname()} for the others: {error.strerror}; is another "
            "run of it still alive on this machine?"
        ) from None


async def _join(group: ProcessGroup, limit: float) -> None:
    """The other processes: connect to process 0 and wait for its list of those that joined."""
    name = socket.gethostname()
    first = f"process 0{_in_brackets(group.hosts[0])} of {len(group.hosts)}"
    try:
        reader, writer = await asyncio.wait_for(_connect(group.address), limit)
    except TimeoutError:
        raise TimeoutError(
            f"{first} did not join within {limit:g} s: no connection to {group.address}. This is process "
            f"{group.index} ({name}). {ADVICE}"
        ) from None
    line = b""
    with contextlib.suppress(TimeoutError, OSError):
        writer.write(json.dumps({"process": group.index, "host": name}).encode() + b"\n")
        # Process 0 may have been the later one, and waits for its own limit.
        line = await asyncio.wait_for(reader.readline(), limit + GRACE)
    writer.close()
    if not line:
        raise TimeoutError(
            f"{first} accepted a connection at {group.address} and did not answer. This is process {group.index} "
            f"({name}). {ADVICE}"
        )
    joined = dict[int, str](json.loads(line))
    if len(joined) < len(group.hosts):
        raise TimeoutError(_missing(group, joined, limit))


async def _connect(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = address.rpartition(":")
    while True:
        with contextlib.suppress(OSError):
            return await asyncio.open_connection(host.strip("[]"), int(port), limit=LONGEST)
        await asyncio.sleep(RETRY)


def _missing(group: ProcessGroup, joined: dict[int, str], limit: float) -> str:
    missing = {index: host for index, host in enumerate(group.hosts) if index not in joined}
    subject = "process" if len(missing) == 1 else "processes"
    return (
        f"{subject} {_listed(missing)} of {len(group.hosts)} did not join within {limit:g} s. Joined: "
        f"{_listed(joined)}. {ADVICE}"
    )


def _listed(processes: dict[int, str]) -> str:
    """Lists processes with their hosts: `2 (node-c), 3 (node-d) and 12 more`."""
    names = [f"{index}{_in_brackets(host)}" for index, host in sorted(processes.items())]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _in_brackets(host: str) -> str:
    return f" ({host})" if host else ""
