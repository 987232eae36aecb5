"""Collective checks: a failure or a differing value in one process raises in all of them."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

T = TypeVar("T")

_BYTES = 2048  # of a text that one process sends to the others


def together(act: Callable[[], T]) -> T:
    """Runs `act` in every process and returns its result; where it fails in one process, all of them raise.

    A process that raised alone would leave the others waiting for it in their next collective operation.

    Raises the OSError, ValueError or ImportError of `act` in the process where it failed; in the others a ValueError
    that names the processes and hosts in which it failed, with the message of the first.
    """
    if jax.process_count() == 1:
        return act()
    failure, result = None, None
    try:
        result = act()
    except (OSError, ValueError, ImportError) as error:
        failure = error
    texts = gather("" if failure is None else f"{socket.gethostname()}\n{failure or type(failure).__name__}")
    if failure is not None:
        raise failure
    failed = [index for index, text in enumerate(texts) if text]
    if failed:
        hosts = ", ".join(f"{index} ({texts[index].partition(chr(10))[0]})" for index in failed)
        raise ValueError(
            f"{len(failed)} of {len(texts)} processes cannot start: {hosts}: {texts[failed[0]].partition(chr(10))[2]}"
        )
    return result  # pyright: ignore[reportReturnType]  None only if act returns it


def require_same(what: str, content: bytes) -> None:
    """Raises ValueError, in every process, that names the hosts whose `content` differs from process 0's.

    what: the subject of the message, as "the token store DIR".
    """
    texts = gather(f"{socket.gethostname()}\n{hashlib.sha256(content).hexdigest()}")
    others = [text.partition("\n")[0] for text in texts if text.partition("\n")[2] != texts[0].partition("\n")[2]]
    if others:
        raise ValueError(
            f"{what} is not the same on all hosts: it differs from that of {texts[0].partition(chr(10))[0]} on "
            f"{', '.join(sorted(set(others)))}; put one copy where all hosts see it, or the same copy on each"
        )


def from_first(text: str) -> str:
    """Returns process 0's text in every process."""
    return gather(text)[0]


def bytes_from_first(content: bytes) -> bytes:
    """Returns process 0's content, of any length, in every process."""
    if jax.process_count() == 1:
        return content
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(content))))
    mine = np.frombuffer(content, np.uint8)
    buffer = mine if jax.process_index() == 0 else np.zeros(size, np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(buffer)).tobytes()


def gather(text: str) -> list[str]:
    """Returns the texts of all processes, in their order, each cut to 2048 bytes."""
    if jax.process_count() == 1:
        return [text]
    content = text.encode()[:_BYTES]
    texts = multihost_utils.process_allgather(np.frombuffer(content.ljust(_BYTES, b"\0"), np.uint8))
    return [bytes(row).rstrip(b"\0").decode(errors="ignore") for row in np.asarray(texts)]
