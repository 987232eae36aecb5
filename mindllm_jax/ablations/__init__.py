"""Ablations: suites of training runs that differ in one setting, their statistics, tables and verdicts on claims."""
