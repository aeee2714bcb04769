"""A session: the parts of a stage, connected as configured."""

from __future__ import annotations

from common.config import Config
from common.data.splits import Splits
from common.run import Run
from common.training.session import prepare_session
from tests.tiny_pairs import make_pairs
from tests.tiny_run import DIM, configure, model_of


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
