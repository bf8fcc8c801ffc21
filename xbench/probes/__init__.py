"""Probes: galleries, sweeps and experiments beside the tables, as plug-ins of one small contract.

A probe is one class in a file of this package (or behind an entry point `xbench.probes`): a frozen
dataclass with a card and `run(model, samples, seed=, tell=) -> Exhibit`. None feeds a rank.
"""
