"""Signals that stop a run at the end of a step."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from mindllm_jax.training.interrupt import StopSignal


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Puts the handler of SIGHUP back, which a test may change."""
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_requests_a_stop(number: signal.Signals) -> None:
    inherited = signal.signal(number, signal.SIG_DFL)  # under nohup the tests inherit that SIGHUP is ignored
    with StopSignal() as stop:
        assert not stop.at(1)
        signal.raise_signal(number)
        assert stop.at(2)
    assert signal.signal(number, inherited) == signal.SIG_DFL


def test_a_run_under_nohup_outlives_its_terminal() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with StopSignal() as stop:
        signal.raise_signal(signal.SIGHUP)
        assert not stop.at(1)
