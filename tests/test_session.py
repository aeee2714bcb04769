"""A session: the parts of a stage, connected as configured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from common.config import Config
from common.data.pair_hashes import TrainedOn
from common.data.splits import Splits
from common.inference.checkpoints import Checkpoint
from common.run import Run
from common.training.session import list_training_pairs, prepare_session
from tests.tiny_pairs import make_pairs
from tests.tiny_run import DECISION, DIM, configure, model_of


def test_a_further_stage_has_been_trained_on_the_pairs_of_both(run: Run) -> None:
    """If those of the earlier stage are not known, the list would not be complete."""
    config = configure()
    splits = Splits({"train": make_pairs(40, dim=DIM)}, {})
    own = list_training_pairs(splits, None)
    assert own is not None
    assert own.proteins is not None
    assert len(own.pairs) == 40
    path, decision = run.model_dir, DECISION
    before = TrainedOn(np.array([1, own.pairs[3]], np.uint64), np.array([2], np.uint64))
    listed = Checkpoint(path, model_of(config), config, decision, before)
    both = list_training_pairs(splits, listed)
    assert both is not None
    assert both.pairs.tolist() == [1, *own.pairs]
    assert both.proteins is not None
    assert both.proteins.tolist() == [2, *own.proteins]
    older = list_training_pairs(splits, replace(listed, trained_on=TrainedOn(before.pairs)))
    assert older is not None
    assert older.proteins is None
    assert list_training_pairs(splits, replace(listed, trained_on=None)) is None


def test_the_miner_and_validation_use_the_loss_that_is_trained(run: Run) -> None:
    """With another one, the pairs that it finds hardest are not those that training finds so."""
    training = {"loss": {"pos_weight": 3.0}, "epochs": 1}
    config: Config = configure(training_config=training)
    train, val = make_pairs(40, dim=DIM), make_pairs(20, dim=DIM, seed=1)
    splits = Splits({"train": train, "val": val}, {})
    began = Run("pretrain", "one", config, run.accelerator, run.log_dir, run.model_dir)
    session = prepare_session(began, model_of(config), splits)
    assert session.loss.settings.pos_weight == 3.0
    assert session.miner.loss is session.validator.loss is session.loss
