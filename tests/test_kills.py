"""Stages that are killed without warning, and gone on with, end as if never stopped.

The kills here are few; `python -m tests.faults --kills 20` does as many as one likes.
"""

from __future__ import annotations

import pytest

from tests.faults import Launch, Workshop, torment

pytestmark = pytest.mark.launch

TORMENTS = {
    "pretrain-workers": ("pretrain", Launch(1, workers=2), 1),
    "pretrain-2": ("pretrain", Launch(2), 1),
    "finetune-2": ("finetune", Launch(2), 2),
    "embedding-1": ("embedding", Launch(1), 2),
    "scoring-2": ("scoring", Launch(2), 2),
}


@pytest.mark.parametrize("case", TORMENTS)
def test_killed_stages_end_as_if_never_stopped(case: str, workshop: Workshop) -> None:
    name, launch, kills = TORMENTS[case]
    report = torment(workshop, workshop.stage(name, launch), kills, seed=len(case))
    assert report.kills == kills
