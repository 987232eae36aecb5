"""The guard in front of the API: the key, and browsers that pages of other sites send."""

from __future__ import annotations

import hmac
import ipaddress
import os
from collections.abc import Collection
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mindllm_jax.serving.errors import ApiError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

KEY = "MINDLLM_API_KEY"
"""The environment variable of the API key; no setting, because settings are recorded and shown."""


def api_key(host: str) -> str | None:
    """Returns the API key of the environment, None on the loopback without one.

    Raises ValueError where a host other than the loopback has none, and for one that no HTTP header can hold.
    """
    key = os.environ.get(KEY)
    if not key and not is_loopback(host):
        raise ValueError(
            f"Serve.host = {host!r} is reachable from other machines, which needs an API key: set {KEY} in the "
            "environment, or serve on 127.0.0.1"
        )
    if key and not (key.isascii() and key.isprintable() and " " not in key):
        raise ValueError(f"{KEY} must consist of printable ASCII characters without spaces")
    return key or None


def is_loopback(host: str) -> bool:
    """Returns whether a host name or address is this machine's loopback."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """ASGI middleware that answers a request by an error unless it may pass.

    Args:
        app: the application behind it.
        key: the API key that paths below /v1 need; None: none.
        hosts: accepted names in the Host header; None: all. On the loopback this refuses a page of another site whose
            name was made to resolve to 127.0.0.1 (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, key: str | None, hosts: Collection[str] | None):
        self._app, self._hosts = app, hosts
        self._authorization = None if key is None else f"Bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers it by 400, 401 or 403."""
        if scope["type"] == "http":
            try:
                self._check(scope)
            except ApiError as error:
                await error.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        if self._hosts is not None and _name(f"//{host}") not in self._hosts:
            raise ApiError(400, f"the Host header {host!r} is not a name of this server", code="invalid_host")
        # A browser names the site that a request comes from; a page elsewhere could make it send requests here.
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin and origin.partition("//")[2].lower() != host.lower():
            raise ApiError(403, f"requests from the site {origin!r} are not accepted", code="invalid_origin")
        if self._authorization is not None and scope["path"].startswith("/v1"):
            given = headers.get(b"authorization", b"")
            if not hmac.compare_digest(given, self._authorization):
                message = "the API key is wrong" if given else "an API key is needed: 'Authorization: Bearer KEY'"
                raise ApiError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})


def loopback_hosts(host: str) -> frozenset[str] | None:
    """Returns the names that the Host header may have on the loopback; None where `host` is another interface."""
    return frozenset({"localhost", "127.0.0.1", "::1", host.lower()}) if is_loopback(host) else None


def _name(url: str) -> str | None:
    """Returns the host of a URL without its port; None where it is not one."""
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
