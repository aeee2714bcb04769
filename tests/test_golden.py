"""The loss curve of 50 steps of v3, to the last bit here and within a tolerance elsewhere.

Refactors must reproduce `golden/v3_loss_curve.json`. A change that is meant to alter the numbers
(initialisation, order of batches, loss) writes it anew and says why in its commit:

    OMP_NUM_THREADS=1 python -m tests.test_golden
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from common.training import session
from common.training.loop import EpochRecord
from tests.tiny_benchmark import TinyProject, call_main, make_project

pytestmark = pytest.mark.pipeline
GOLDEN = Path(__file__).parent / "golden" / "v3_loss_curve.json"
# The tiny benchmark's 75 pairs are 10 batches of 8, its last one of 3.
EPOCHS = 5
# On another processor sums are taken in another order, and 50 updates carry the difference on.
TOLERANCE = 1e-4

Curves = dict[str, list[float]]


def train(project: TinyProject, run_id: str) -> tuple[Curves, dict[str, Tensor]]:
    """Pretrain v3 without dropout on one thread: the losses, and the last epoch's weights."""
    steps: list[float] = []
    note = EpochRecord.note

    def noted(record: EpochRecord, losses: Tensor, weights: Tensor, lr: float) -> None:
        steps.append(float(losses.detach().double().mean()))
        note(record, losses, weights, lr)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EpochRecord, "note", noted)
        patch.setattr(session, "save_chart", lambda *arguments: None)
        call_main(
            project, "pretrain.py", "--set", f"training_config.epochs={EPOCHS}",
            f"run_config.pretrain_run_id={run_id}",
        )  # fmt: skip
    torch.set_num_threads(threads)
    state = project.output / "models" / "v3" / "pretrain" / run_id / "last_state"
    rows = json.loads((state / "progress.json").read_text())["rows"]
    validation = [row["val_loss"] for row in rows]
    return {"steps": steps, "validation": validation}, load_file(state / "model.safetensors")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: Any) -> tuple[TinyProject, Curves, dict[str, Tensor]]:
    project = make_project(tmp_path_factory.mktemp("golden"))
    return project, *train(project, "first")


def test_the_loss_curve_is_the_golden_one(trained: Any) -> None:
    golden = json.loads(GOLDEN.read_text())
    _, curves, _ = trained
    assert len(curves["steps"]) == 50
    for name in ("steps", "validation"):
        assert curves[name] == pytest.approx(golden[name], rel=golden["tolerance"]), name


def test_the_golden_curve_falls() -> None:
    """It would be worth little if it held whether or not the model learns."""
    steps = json.loads(GOLDEN.read_text())["steps"]
    assert sum(steps[40:]) < 0.97 * sum(steps[:10])


def test_a_second_run_is_the_same_to_the_last_bit(trained: Any) -> None:
    project, curves, weights = trained
    again, same = train(project, "second")
    assert again == curves
    assert same.keys() == weights.keys()
    assert all(torch.equal(same[name], weights[name]) for name in weights)


def write_golden() -> None:
    """Replace the golden file by what this checkout computes."""
    with tempfile.TemporaryDirectory() as folder:
        curves, _ = train(make_project(Path(folder)), "golden")
    content = {
        "what": "v3 on tests/tiny_benchmark.py, dropout 0, one thread: every step's mean loss,"
        " every epoch's validation loss",
        "tolerance": TOLERANCE,
        **curves,
    }
    GOLDEN.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    write_golden()
