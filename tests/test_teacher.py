"""Distillation: what a teacher does to labels, whatever it and its student read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from common.data.batches import PairBatch, PairData
from common.data.embeddings.means import MeanStore
from common.data.pair_hashes import TrainedOn
from common.data.splits import Splits
from common.errors import UserError
from common.inference.checkpoints import load_checkpoint, save_model
from common.inference.decision import Decision
from common.inference.scoring import score_pairs
from common.models import PairModel
from common.run import Run
from common.training.checking import check_training
from common.training.losses import PairLoss
from common.training.session import Session, prepare_session
from tests.tiny_pairs import make_pairs, whole_batch
from tests.tiny_run import DECISION, DIM, SMALL, configure, model_of

ROWS = [3, 0, 17, 29]


def save_teacher(run: Run, name: str, seed: int = 1, decision: Decision = DECISION) -> Path:
    """A model with random weights, as if it had been trained on two pairs."""
    config = configure(model_config={**SMALL, "model": name})
    trained = Run("pretrain", "t", config, run.accelerator, run.log_dir, run.model_dir / "t")
    return save_model(trained, model_of(config, seed), decision, f"{name}{seed}",
                      TrainedOn(np.array([1, 2], np.uint64)))  # fmt: skip


def read_as(name: str, data: PairData) -> PairData:
    """The pairs with what a model of this name reads."""
    data.store.language_model = DECISION.language_model
    if name == "v3":
        return data
    sums = {protein: data.store.sums(protein) for protein in data.table.proteins}
    return PairData(data.table, MeanStore(data.store, sums))


def start(run: Run, student: str, loss: dict[str, Any], **data: Any) -> Session:
    config = configure(
        model_config={**SMALL, "model": student},
        training_config={"loss": loss, "epochs": 3, "batch_size": 8},
        data_config=data,
    )
    train, val = (make_pairs(count, dim=DIM, seed=count) for count in (40, 20))
    splits = Splits({"train": read_as(student, train), "val": read_as(student, val)}, {})
    began = Run("pretrain", "one", config, run.accelerator, run.log_dir, run.model_dir)
    return prepare_session(began, model_of(config), splits)


def batch_of(session: Session, epoch: int = 0) -> PairBatch:
    return whole_batch(session.planner.at(epoch), ROWS)


def judged_by(model: PairModel, session: Session, epoch: int = 0) -> Tensor:
    """The model's probabilities, from all residues, one pair after the other."""
    data = make_pairs(40, dim=DIM, seed=40)
    found = []
    model.train(False)
    with torch.no_grad():
        for row in ROWS:
            pair = session.planner.at(epoch).table.pairs[row]
            residues = [torch.from_numpy(data.store[data.table.proteins[p]]).float() for p in pair]
            lengths = torch.tensor([len(protein) for protein in residues])
            logits = model(torch.cat(residues), lengths, torch.tensor([[0, 1]])).logits
            found.append(torch.sigmoid(logits))
    return torch.cat(found)


@pytest.mark.parametrize("student", ["v3", "pooled"])
@pytest.mark.parametrize("teacher", ["v3", "factorised"])
def test_labels_become_a_mixture_whatever_both_models_read(
    run: Run, student: str, teacher: str
) -> None:
    path = save_teacher(run, teacher)
    session = start(run, student, {"teacher": str(path), "teacher_weight": 0.25})
    batch = batch_of(session)
    taught = session.teach(batch, 0)
    expected = 0.75 * batch.labels + 0.25 * judged_by(load_checkpoint(path).model, session)
    torch.testing.assert_close(taught.labels, expected, rtol=0, atol=1e-5)
    assert taught.labels.std() > 0.1
    assert taught.proteins is batch.proteins
    assert session.unwrapped.training
    assert session.teacher is not None
    assert all(weight.grad is None for weight in session.teacher.checkpoint.model.parameters())


def test_without_a_teacher_a_batch_stays_as_it_is(run: Run) -> None:
    session = start(run, "pooled", {})
    batch = batch_of(session)
    assert session.teacher is None
    assert session.teach(batch, 0) is batch


@pytest.mark.parametrize(("source", "scorings"), [("file", 1), ("resampled", 2)])
def test_a_teacher_scores_an_epochs_own_pairs_once(
    run: Run, source: str, scorings: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_teacher(run, "v3")
    negatives = {"sampling": {"negatives": {"source": source}}}
    loss = {"teacher": str(path), "teacher_weight": 1.0}
    session = start(run, "pooled", loss, dataloader=negatives)
    calls = []

    def count(*arguments: Any) -> Any:
        calls.append(arguments)
        return score_pairs(*arguments)

    monkeypatch.setattr("common.training.teacher.score_pairs", count)
    for epoch in (0, 0, 1):
        taught = session.teach(batch_of(session, epoch), epoch)
        expected = judged_by(load_checkpoint(path).model, session, epoch)
        torch.testing.assert_close(taught.labels, expected, rtol=0, atol=1e-5)
    assert len(calls) == scorings


def test_the_loss_of_a_mixed_label_is_the_mixture_of_both_losses() -> None:
    logits, labels = torch.tensor([-2.0, 0.5, 3.0]), torch.tensor([1.0, 0.0, 1.0])
    taught = torch.tensor([0.2, 0.9, 0.6])
    loss = PairLoss(configure(training_config={"loss": {"pos_weight": 3.0}}).training.loss)
    mixed = loss.per_pair(logits, 0.3 * labels + 0.7 * taught)
    both = 0.3 * loss.per_pair(logits, labels) + 0.7 * loss.per_pair(logits, taught)
    torch.testing.assert_close(mixed, both)


def test_a_teacher_of_other_embeddings_is_refused(run: Run) -> None:
    other = save_teacher(run, "pooled", 1, replace(DECISION, language_model="other"))
    with pytest.raises(UserError, match=r"is not the language model that .*pooled1 was trained on"):
        start(run, "pooled", {"teacher": str(other)})
    same = save_teacher(run, "pooled", 2)
    with pytest.raises(UserError, match=r"max_sequence_length is 50, but .* trained with 1000"):
        start(run, "pooled", {"teacher": str(same)}, max_sequence_length=50)
    missing = configure(training_config={"loss": {"teacher": "nowhere"}})
    with pytest.raises(UserError, match=r"loss\.teacher nowhere is not a best_model directory"):
        check_training(missing)


def test_a_run_knows_its_teacher_and_what_that_was_trained_on(run: Run) -> None:
    """So another teacher in the same place cannot continue the run, nor are test pairs missed."""
    path, other = (save_teacher(run, "factorised", seed) for seed in (1, 2))
    one, two = (start(run, "v3", {"teacher": str(each)}) for each in (path, other))
    again, alone = start(run, "v3", {"teacher": str(path)}), start(run, "v3", {})
    assert one.progress.data == again.progress.data
    assert len({one.progress.data, two.progress.data, alone.progress.data}) == 3
    assert alone.trained_on is not None
    assert one.trained_on is not None
    assert set(one.trained_on.pairs) == {1, 2, *alone.trained_on.pairs}
