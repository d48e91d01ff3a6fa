"""What ends a run after the step at hand, and what ends it at once."""

from __future__ import annotations

import os
import signal

import pytest

from figclip_cli.stop_signals import StopSignals


def test_signals_that_a_cluster_sends_twice_end_nothing_amid_a_step():
    said = []
    with StopSignals(lambda: said.append("stopping")) as signals:
        assert not signals.requested
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.requested and said == ["stopping"]


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_after_any_signal_ends_at_once(first):
    before = signal.getsignal(signal.SIGINT)
    with StopSignals(lambda: None) as signals:
        os.kill(os.getpid(), first)
        assert signals.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before, "handlers are put back"
