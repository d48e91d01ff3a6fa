"""Imported by the server that cells are forked from, and by nothing else.

A cluster's SIGTERM goes to every process of a job. The server must outlive it, or nobody would learn how the cells
ended, which are leaving a checkpoint.
"""

from __future__ import annotations

import signal

signal.signal(signal.SIGTERM, signal.SIG_IGN)
