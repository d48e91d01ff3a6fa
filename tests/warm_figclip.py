"""Stands for ``figclip`` in tests: has ``warm_start`` run the call, and ends as it ended.

    python warm_figclip.py SOCKET SCRIPT [ARGUMENT]...

SCRIPT is empty for the program itself.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from pathlib import Path


def main() -> None:
    """Hand over arguments, folder, environment and streams; pass signals on."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server.connect(sys.argv[1])
    script, *arguments = sys.argv[2:]
    call = json.dumps([script, arguments, str(Path.cwd()), dict(os.environ)])
    socket.send_fds(server, [call.encode()], [0, 1, 2])
    program = int(server.recv(64))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: os.kill(program, received))
    status = int(server.recv(64))
    if os.WIFSIGNALED(status):
        signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.WEXITSTATUS(status))


main()
