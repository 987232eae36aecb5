"""Signals that stop a run at the end of a step."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from mindllm_jax.training.interrupt import StopSignal

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Puts the handlers back, which a test may change."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_requests_a_stop(number: signal.Signals, capfd: pytest.CaptureFixture[str]) -> None:
    signal.signal(number, signal.SIG_DFL)  # under nohup the tests inherit that SIGHUP is ignored
    with StopSignal() as stop:
        assert not stop.at(1)
        signal.raise_signal(number)
        assert stop.at(2)
        assert capfd.readouterr().err.startswith("stopping after this step or measurement, with everything saved")
        if number != signal.SIGINT:
            signal.raise_signal(number)
            assert not capfd.readouterr().err, "once"
    assert signal.getsignal(number) == signal.SIG_DFL


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_an_ignored_signal_stays_ignored(number: signal.Signals) -> None:
    """SIGINT in a background job, SIGHUP under nohup, whose run outlives its terminal."""
    signal.signal(number, signal.SIG_IGN)
    with StopSignal() as stop:
        signal.raise_signal(number)
        assert not stop.at(1)
    assert signal.getsignal(number) == signal.SIG_IGN
