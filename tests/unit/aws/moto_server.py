"""moto's EC2 behind a real socket, reached through the environment as AWS itself would be."""

from __future__ import annotations

import logging
import os
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from moto import settings
from moto.server import ThreadedMotoServer

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "AKIAFAKE", "AWS_SECRET_ACCESS_KEY": "made-up"}

_STRICT = ("ENABLE_AMI_VALIDATION", "EC2_ENABLE_INSTANCE_TYPE_VALIDATION", "ENABLE_KEYPAIR_VALIDATION")
"""moto checks none of these by default, and reads its environment when it is imported."""
_UNSET = ("AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_EC2")


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables that hold inside the block; other AWS settings don't."""
    saved = {name: os.environ.pop(name, None) for name in (*_UNSET, *values)}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in saved.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def moto_server() -> Iterator[str]:
    """Its URL; also set as AWS_ENDPOINT_URL, with credentials that it accepts."""
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    before = {name: getattr(settings, name) for name in _STRICT}
    for name in _STRICT:
        setattr(settings, name, True)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    try:
        with environment({**CREDENTIALS, "AWS_ENDPOINT_URL": url}):
            # moto keeps its state in the process, not in the server.
            reset = urllib.request.Request(f"{url}/moto-api/reset", method="POST")  # noqa: S310
            urllib.request.urlopen(reset).close()  # noqa: S310  (a URL of our own)
            yield url
    finally:
        server.stop()
        for name, value in before.items():
            setattr(settings, name, value)
