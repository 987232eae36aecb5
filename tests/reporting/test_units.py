"""The units of scores."""

from mindllm_jax.reporting.units import PER_CENT, PLAIN, metric_text, unit_of


def test_shares_are_shown_in_per_cent_and_others_as_they_are() -> None:
    assert unit_of("acc") == unit_of("exact_match,strict-match") == PER_CENT
    assert unit_of("bits_per_byte") == unit_of("bleu") == unit_of("f") == PLAIN
    assert (PER_CENT.head("acc"), PLAIN.head("bleu")) == ("acc, %", "bleu")
    assert PER_CENT.text(0.285) == "28.5" and PER_CENT.text(0.285, 0.03, places=2) == "28.50 ± 3.00"
    assert PLAIN.text(2.5, 0.125) == "2.500 ± 0.125"
    assert PER_CENT.change(-0.0625) == "-6.25" and PLAIN.change(0.5) == "+0.5000"


def test_metrics_of_a_run_are_shown_in_their_units():
    assert metric_text("tasks/piqa/acc", 0.6543) == "tasks/piqa/acc 65.4 %"
    assert metric_text("bits_per_byte/zh", 2.5) == "bits_per_byte/zh 2.5000"
    assert metric_text("bits_per_byte/score", 2.5) == "bits_per_byte/score 2.5000"  # a source of this name
