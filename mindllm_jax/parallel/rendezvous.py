"""The first barrier: processes meet over plain TCP, so that whoever is missing can be named.

jax.distributed alone cannot do it: its client ends the process from C++ with a stack trace that names nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket

from mindllm_jax.parallel.hosts import ProcessGroup

GRACE = 5.0  # seconds by which the others outwait process 0, who alone knows all
RETRY = 0.2  # seconds between attempts to reach process 0
SHOWN = 16  # processes that a message lists
LONGEST = 2**24  # bytes of the list of all processes
ADVICE = "Look at the log of what is missing and at the launcher's; MINDLLM_START_LIMIT=SECONDS waits longer"


def rendezvous(group: ProcessGroup, limit: float) -> None:
    """Returns when all processes of the run have come.

    limit: seconds that process 0 waits for the others, and the others for process 0. The port is free again afterwards.

    Raises TimeoutError, in every process that did come, with the processes and hosts that did not; OSError when process
    0 cannot open its port.
    """
    asyncio.run(_wait_for_all(group, limit) if group.index == 0 else _come(group, limit))


async def _wait_for_all(group: ProcessGroup, limit: float) -> None:
    """Process 0: waits, then tells everybody who is here."""
    here, others = {0: socket.gethostname()}, dict[int, asyncio.StreamWriter]()
    complete = asyncio.Event()

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ValueError, KeyError, TypeError, OSError):  # a stranger at the door
            hello = json.loads(await reader.readline())
            index = int(hello["process"])
            if index in here or not 0 < index < len(group.hosts):
                raise ValueError
            here[index], others[index] = str(hello["host"]), writer
            if len(here) == len(group.hosts):
                complete.set()
            try:
                await reader.read()
            finally:
                # Who leaves before all are here has not come.
                if not complete.is_set():
                    del here[index], others[index]
        writer.close()

    port = int(group.address.rpartition(":")[2])
    server = await asyncio.start_server(meet, sock=_listening(port))
    try:
        await asyncio.wait_for(complete.wait(), limit)
    except TimeoutError:
        raise TimeoutError(_missing(group, here, limit)) from None
    finally:
        # Closed before the others hear that they may go on: they come back to this port through jax.
        server.close()
        known = json.dumps(list(here.items())).encode() + b"\n"
        for writer in list(others.values()):
            writer.write(known)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def _listening(port: int) -> socket.socket:
    both = socket.has_dualstack_ipv6()
    try:
        return socket.create_server(
            ("", port), family=socket.AF_INET6 if both else socket.AF_INET, dualstack_ipv6=both, backlog=4096
        )
    except OSError as error:
        raise OSError(
            f"process 0 cannot wait for the others at port {port} of {socket.gethostname()}: {error.strerror}; "
            "is another run of it still alive here?"
        ) from None


async def _come(group: ProcessGroup, limit: float) -> None:
    """The others: say who they are and wait for what process 0 tells."""
    name = socket.gethostname()
    started = asyncio.get_running_loop().time()
    try:
        reader, writer = await asyncio.wait_for(_reach(group.address), limit)
    except TimeoutError:
        raise TimeoutError(
            f"process 0{_in_brackets(group.hosts[0])} of {len(group.hosts)} has not come within {limit:g} s: nothing "
            f"answers at {group.address}. This is {group.index} ({name}). {ADVICE}"
        ) from None
    line = b""
    with contextlib.suppress(TimeoutError, OSError):
        writer.write(json.dumps({"process": group.index, "host": name}).encode() + b"\n")
        left = limit + GRACE - (asyncio.get_running_loop().time() - started)
        line = await asyncio.wait_for(reader.readline(), left)
    writer.close()
    if not line:
        raise TimeoutError(
            f"process 0{_in_brackets(group.hosts[0])} of {len(group.hosts)} was there at {group.address} and then gave "
            f"no answer. This is {group.index} ({name}). {ADVICE}"
        )
    here = dict[int, str](json.loads(line))
    if len(here) < len(group.hosts):
        raise TimeoutError(_missing(group, here, limit))


async def _reach(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = address.rpartition(":")
    while True:
        with contextlib.suppress(OSError):
            return await asyncio.open_connection(host, int(port), limit=LONGEST)
        await asyncio.sleep(RETRY)


def _missing(group: ProcessGroup, here: dict[int, str], limit: float) -> str:
    gone = {index: host for index, host in enumerate(group.hosts) if index not in here}
    subject, verb = ("process", "has") if len(gone) == 1 else ("processes", "have")
    return (
        f"{subject} {_listed(gone)} of {len(group.hosts)} {verb} not come within {limit:g} s. Here: {_listed(here)}. "
        f"{ADVICE}"
    )


def _listed(processes: dict[int, str]) -> str:
    """`2 (node-c), 3 (node-d) and 12 more`."""
    names = [f"{index}{_in_brackets(host)}" for index, host in sorted(processes.items())]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _in_brackets(host: str) -> str:
    return f" ({host})" if host else ""
