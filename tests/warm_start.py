"""A server that has imported what the program needs, and forks for every call: a process that starts in no time.

Most of what a call of ``figclip`` takes in a test is the import of torch and open_clip. The server does that once and
computes nothing itself, so that each fork is a fresh process, with its own arguments, environment, folder and streams.

    python warm_start.py SOCKET

``warm_figclip.py`` is the program that asks it.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import signal
import socket
import sys
import threading
import types

_LONGEST_CALL_BYTES = 1 << 18


def serve(path: str) -> None:
    """Answer calls until the process that started the server is gone or kills it."""
    import open_clip  # noqa: F401
    import torch  # noqa: F401

    from figclip_cli.app import VERBS

    for module, _ in VERBS.values():
        importlib.import_module(f"figclip_cli.commands.{module}")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen(16)
    gc.freeze()  # a collection in a fork would copy every page
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who answer
    while True:
        connection, _ = listener.accept()
        call, streams, _, _ = socket.recv_fds(connection, _LONGEST_CALL_BYTES, 3)
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            answer(connection, json.loads(call), streams)
            return
        connection.close()
        for stream in streams:
            os.close(stream)


def answer(connection: socket.socket, call: list, streams: list[int]) -> None:
    """Run the program in a fork and say how it ended."""
    program = os.fork()
    if program == 0:
        connection.close()
        become(*call, streams)
        end(run())
    for stream in streams:
        os.close(stream)
    connection.send(str(program).encode())
    _, status = os.waitpid(program, 0)
    connection.send(str(status).encode())
    os._exit(0)


def run() -> int:
    """Run the program and return its exit code."""
    from figclip_cli.app import main

    try:
        main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


def end(code: int) -> None:
    """End as the interpreter does, but for taking apart every object of every package, which takes seconds."""
    threading._shutdown()
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
    except OSError:
        code = 120  # as the interpreter says it
    os._exit(code)


def become(arguments: list[str], folder: str, environment: dict[str, str], streams: list[int]) -> None:
    """Take over what a process of its own would have been started with."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = os.fdopen(0)
    sys.stdout = os.fdopen(1, "w")
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace")
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["figclip", *arguments]
    sys.modules["__main__"] = types.ModuleType("__main__")  # what processes that are spawned would run again


if __name__ == "__main__":
    importlib.import_module("warm_start").serve(sys.argv[1])
