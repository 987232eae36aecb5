"""Serves a run over HTTP until the process is interrupted."""

from __future__ import annotations

import asyncio
import importlib.util
import socket
import threading
from dataclasses import dataclass, field
from types import FrameType

from mindllm_jax.checks import require_at_least, require_local
from mindllm_jax.generation.sampling import Sampling
from mindllm_jax.generation.scheduler import Batching, Scheduler
from mindllm_jax.serving.app import make_app
from mindllm_jax.serving.errors import ApiError, stopping
from mindllm_jax.serving.guard import loopback_hosts
from mindllm_jax.serving.served_model import ServedModel
from mindllm_jax.serving.service import Service

CLOSE_SECONDS = 2  # of connections, after running answers have ended


@dataclass(frozen=True)
class Serve:
    """The run to serve, and where."""

    run: str  # folder of a run; chat needs a tuned one
    host: str = "127.0.0.1"  # interface to listen on; any but the loopback needs MINDLLM_API_KEY in the environment
    port: int = 8000  # 0: a free one
    browser: bool = False  # open the page in this machine's browser when the model is ready
    max_body_bytes: int = 2**20  # bytes of a request's body at most
    sampling: Sampling = field(default_factory=Sampling)  # of requests that leave these fields out
    batching: Batching = field(default_factory=Batching)

    def __post_init__(self) -> None:
        require_local(self, "run")
        require_at_least(self, 1, "max_body_bytes")
        if not 0 <= self.port < 2**16:
            raise ValueError(f"Serve.port = {self.port}: must be at least 0 and below 65536")


def check_installed() -> None:
    """Raises ImportError when the libraries of the extra serve are missing."""
    for module in ("starlette", "sse_starlette", "uvicorn"):
        if importlib.util.find_spec(module) is None:
            raise ImportError(f"serving needs {module}: pip install 'mindllm-jax[serve]'")


def bind(config: Serve) -> socket.socket:
    """Returns a socket on the address to serve on, not yet listening. Raises OSError when it cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind(address)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        raise OSError(f"cannot serve on {config.host}:{config.port}: {error}; try another Serve.port") from None
    return bound


def listen(bound: socket.socket) -> None:
    """Accepts connections from now on. Raises OSError when a server that was bound at the same time was faster."""
    try:
        bound.listen()
    except OSError as error:
        raise OSError(f"cannot serve on {url(bound)}: {error}; try another Serve.port") from None


def url(bound: socket.socket) -> str:
    """Returns the address of the page."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server:
    """The HTTP server and the scheduler's thread.

    Args:
        config: the settings.
        model: the served model.
        scheduler: its scheduler, warmed up.
        key: the API key; None: none is needed.
    """

    def __init__(self, config: Serve, model: ServedModel, scheduler: Scheduler, key: str | None):
        import uvicorn

        self._scheduler = scheduler
        self._service = Service(model, scheduler, config.batching, config.max_body_bytes)
        self._failure: BaseException | None = None
        self._closing: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        settings = uvicorn.Config(
            make_app(self._service, key, loopback_hosts(config.host)),
            http="h11",
            ws="none",
            lifespan="off",
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=CLOSE_SECONDS,
        )
        self._http = uvicorn.Server(settings)
        self._http.handle_exit = self._on_signal

    def run(self, bound: socket.socket) -> None:
        """Serves until `stop`, SIGINT or SIGTERM; in the main thread alone signals are handled.

        Raises what the scheduler raised, after the answers that it failed were ended by an error.
        """
        asyncio.run(self._run(bound))
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Ends the server from any thread: new requests are refused, and running answers have seconds to finish."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._close)

    async def _run(self, bound: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        stop = threading.Event()
        thread = threading.Thread(target=self._generate, args=(self._loop, stop), name="scheduler")
        thread.start()
        try:
            await self._http.serve([bound])
        finally:
            stop.set()
            await asyncio.to_thread(thread.join)

    def _generate(self, loop: asyncio.AbstractEventLoop, stop: threading.Event) -> None:
        try:
            self._scheduler.run(stop)
        except BaseException as error:
            self._failure = error
            loop.call_soon_threadsafe(self._fail)

    def _fail(self) -> None:
        self._service.closing = True
        self._service.fail(ApiError(500, "the server failed; its log has the reason", kind="server_error"))
        self._http.should_exit = True

    def _on_signal(self, sig: int, frame: FrameType | None) -> None:
        if self._closing is not None and self._loop is not None:  # a second one: running answers end now
            self._loop.call_soon_threadsafe(self._service.fail, stopping())
            self._http.should_exit = True
        self.stop()

    def _close(self) -> None:
        async def close() -> None:
            await self._service.close()
            self._http.should_exit = True

        if self._closing is None:
            self._closing = asyncio.create_task(close())
