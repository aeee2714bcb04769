"""Sizes of a demo benchmark that is generated in seconds."""

from __future__ import annotations

from common.data.benchmarks.demo.world import DemoSpec

MINIATURE = DemoSpec(
    proteins=120,
    transfer_proteins=40,
    lengths=(40, 60),
    families=4,
    hub_partners=0,
    homotypic=1,
    mean_degree=14.0,
    transfer_mean_degree=5.0,
    train_positives=120,
    set_sizes=(8, 16),
    sets_per_size=3,
    unlabelled=40,
    language_model_steps=2,
)
