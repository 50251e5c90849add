"""`talk`: one command after the other over one channel, which saves each its own start.

A request is a line of JSON, {"arguments": [name, …], "bytes": n}, and n bytes for the command's standard
input. What the command prints comes as it is, and after it a line {"ended": exit status, "said": what it
printed to standard error}. Each command has a process of its own, as if it had been started alone; none reads
what comes after its request. The first line, {"talks": true}, says that requests are read.
"""

from __future__ import annotations

import io
import json
import os
import select
import sys
import tempfile
import traceback
from collections.abc import Callable
from importlib import import_module

from .state import say

_COMING = ("hostkey", "lease", "files", "local_disks", "standins", "supervisor")
"""What the usual commands need, in their order: imported once, while nothing is asked."""
_MOST = 4096
"""So many bytes of what a command says are told."""


def talk(run: Callable[[list[str]], int]) -> int:
    """Read requests to the end of standard input, and have them run."""
    stream, coming = sys.stdin.buffer, [*_COMING]
    say({"talks": True})
    while True:
        while coming and not select.select([stream], [], [], 0)[0]:
            import_module(f"{__package__}.{coming.pop(0)}")
        line = stream.readline()
        if not line:
            return 0
        request = json.loads(line)
        given = stream.read(int(request["bytes"]))
        with tempfile.TemporaryFile() as said:
            child = os.fork()
            if not child:
                _become(run, [str(each) for each in request["arguments"]], given, said.fileno())
            _, status = os.waitpid(child, 0)
            said.seek(max(0, said.seek(0, os.SEEK_END) - _MOST))
            words = said.read().decode(errors="replace")
        ended = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
        say({"ended": ended, "said": words})


def _become(run: Callable[[list[str]], int], arguments: list[str], given: bytes, said: int) -> None:
    """Be a command, to its end; what it starts must not read our requests."""
    status = 1
    try:
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(said, 2)
        sys.stdin = io.TextIOWrapper(io.BytesIO(given))
        status = run(arguments)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)  # whatever happens: we must not go on as what reads requests
