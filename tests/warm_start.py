"""A server that has imported what the program needs, and forks for every call: a process that starts in no time.

Most of what a call of ``figclip`` takes in a test is the import of torch, open_clip and scipy. The server does that
once and computes nothing itself, so that each fork is a fresh process, with its own arguments, environment, folder and
streams.

    python warm_start.py SOCKET PYTHON

``warm_figclip.py`` is the program that asks it. PYTHON is what the program is told that its interpreter is: one that
asks the server for the scripts that open an export, too.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import sys
import threading
import types
from collections.abc import Iterator

_LONGEST_CALL_BYTES = 1 << 18

# What the program imports where it first needs it. That of processes is among it so that they start with the real
# interpreter, whose name it notes.
_IMPORTED = (
    "torch", "open_clip", "matplotlib.backends.backend_svg", "matplotlib.figure", "multiprocessing.spawn",
    "scipy.stats",
)  # fmt: skip


def modules_of_the_program() -> Iterator[str]:
    """Every module but those that do something when they are imported, or are programs of their own."""
    import figclip_cli

    apart = ("figclip_cli.__main__", "figclip_cli.ablate.server_signals", "figclip_cli.export.reload.")
    for module in pkgutil.walk_packages(figclip_cli.__path__, "figclip_cli."):
        if not module.name.startswith(apart):
            yield module.name


def serve(path: str, python: str) -> None:
    """Answer calls until the process that started the server is gone or kills it."""
    for name in (*_IMPORTED, *modules_of_the_program()):
        importlib.import_module(name)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, "a module that is deaf to signals was imported"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen(16)
    sys.executable = python
    gc.freeze()  # a collection in a fork would copy every page
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who answer
    while True:
        connection, _ = listener.accept()
        call, streams, _, _ = socket.recv_fds(connection, _LONGEST_CALL_BYTES, 3)
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)  # which jobs in a shell's background ignore
            answer(connection, json.loads(call), streams)
            return
        connection.close()
        for stream in streams:
            os.close(stream)


def answer(connection: socket.socket, call: list, streams: list[int]) -> None:
    """Run the program in a fork and say how it ended; kill it if whoever asked is killed."""
    program = os.fork()
    if program == 0:
        connection.close()
        script, *rest = call
        become(*rest, streams)
        end(run(script))
    for stream in streams:
        os.close(stream)
    connection.send(str(program).encode())
    ended = threading.Event()
    threading.Thread(target=kill_when_left, args=(connection, program, ended), daemon=True).start()
    _, status = os.waitpid(program, 0)
    ended.set()
    with contextlib.suppress(OSError):  # whoever asked was killed
        connection.send(str(status).encode())
    os._exit(0)


def kill_when_left(connection: socket.socket, program: int, ended: threading.Event) -> None:
    """Wait for the end of the connection, over which nothing else comes."""
    connection.recv(1)
    if not ended.is_set():
        os.kill(program, signal.SIGKILL)


def run(script: str) -> int:
    """Run a script, or the program if none is named, and return its exit code."""
    from figclip_cli.app import main

    try:
        if script:
            sys.argv[0] = script
            runpy.run_path(script, run_name="__main__")
        else:
            main()
    except SystemExit as ended:
        if ended.code is not None and not isinstance(ended.code, int):
            print(ended.code, file=sys.stderr)  # as the interpreter does
            return 1
        return ended.code or 0
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
    importlib.import_module("warm_start").serve(*sys.argv[1:])
