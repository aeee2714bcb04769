"""Validation: what it refuses to call a figure."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from common.config import Config, LossConfig
from common.errors import UserError
from common.training.losses import PairLoss
from common.training.validation import Validator, check_validation
from tests.tiny_pairs import alone, make_pairs, one_process
from tests.tiny_run import configure, model_of


def test_scores_that_are_not_finite_are_refused_with_the_remedy() -> None:
    """They ended in a traceback of the library that computes the figures."""
    config = configure()
    model = model_of(config)
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    validator = Validator(
        alone(make_pairs(12, dim=6)), PairLoss(LossConfig()), config, one_process()
    )
    with pytest.raises(UserError, match=r"after epoch 3 the scores .* not finite; lower"):
        validator.validate(model, 3)


@pytest.mark.parametrize(("mode", "refused"), [("fixed", False), ("best_f1_on_valid", True)])
def test_one_class_has_no_best_threshold(mode: str, refused: bool) -> None:
    data = make_pairs(12)
    data.table.labels[:] = 1
    assert len(np.unique(data.table.labels)) == 1
    config = Config.model_validate(
        {
            "training_config": {"monitor_metric": "loss"},
            "evaluate": {"decision_threshold": {"mode": mode}},
        }
    )
    if not refused:
        check_validation(config, data)
        return
    with pytest.raises(UserError, match="threshold mode best_f1_on_valid needs both classes"):
        check_validation(config, data)
