"""The page on the network: a port of this machine, an address that nobody guesses."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING

from sam_train.errors import InputError

if TYPE_CHECKING:
    from sam_train.app.labeling import Labeling


def require_web() -> None:
    """Refuse to begin without what serves the page.

    Raises:
        InputError: If a library is not installed.
    """
    if missing := [name for name in ("fastapi", "uvicorn") if find_spec(name) is None]:
        raise InputError(f"sam-app needs {' and '.join(missing)}: pip install 'sam-train[app]'")


def take_port(host: str, port: int) -> socket.socket:
    """Take a port, before anything that takes long; requests wait there until :func:`serve` answers them.

    Args:
        host: Address of this machine that is listened at.
        port: Its number; 0 for any that is free.

    Raises:
        InputError: If another program has it, or there is no such address.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        taken = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise InputError(f"host={host}: no address of this machine ({error.strerror}); try host=127.0.0.1") from error
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind(address)
        taken.listen()
    except OSError as error:
        taken.close()
        raise InputError(
            f"port={port}: cannot be taken at host={host} ({error.strerror}); another program, maybe another sam-app, "
            f"uses it: give port={port + 1}, or port=0 for any that is free"
        ) from error
    return taken


def serve(labeling: Labeling, port: socket.socket, tell: Callable[[str], None]) -> None:
    """Serve the page until Ctrl-C.

    Args:
        labeling: What it shows.
        port: Of :func:`take_port`.
        tell: Is given the address of the page.
    """
    import uvicorn

    from sam_train.app.server import make_app

    token = secrets.token_urlsafe(16)
    host, number = port.getsockname()[:2]
    is_any = host in ("0.0.0.0", "::")
    name = socket.gethostname() if is_any else f"[{host}]" if ":" in host else host
    config = uvicorn.Config(make_app(labeling, token), log_level="warning", access_log=False, server_header=False)
    tell(f"http://{name}:{number}/{token}/")
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[port])
    labeling.tuner.stop()
