"""Scoring: every pair once, each protein once, the same numbers however the work is shared out."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from common import long_work
from common.config import MlpHeadConfig, ModelConfig, ScoringConfig
from common.data.batches import PairData
from common.data.tables.pairs import PairTable
from common.errors import UserError
from common.inference import protein_states, scoring, scoring_job
from common.inference.partial_scores import PartialScores
from common.inference.protein_states import encode_proteins
from common.inference.scoring import score_pairs
from common.inference.scoring_job import GIB, ScoringJob
from common.inference.tiles import plan_tiles
from common.models import PairModel, build_model
from common.pausing import Paused
from tests.tiny_esm import record_log
from tests.tiny_pairs import MemoryStore, one_process

ROOT = Path(__file__).parents[1]
DIM = 6
SMALL = ScoringConfig(tile_residues=256)


def every_pair(proteins: int = 24, seed: int = 0) -> PairData:
    """All pairs of proteins of 2 to 80 residues, self-pairs too, either way round."""
    rng = np.random.default_rng(seed)
    names = tuple(f"P{i:02d}" for i in range(proteins))
    store = MemoryStore(
        {name: rng.normal(size=(int(rng.integers(2, 81)), DIM)).astype("f2") for name in names}
    )
    pairs = np.array([(a, b) for a in range(proteins) for b in range(a, proteins)])
    pairs = rng.permuted(pairs[rng.permutation(len(pairs))], axis=1)
    return PairData(PairTable(names, pairs, np.zeros(len(pairs), dtype=np.int8)), store)


def make_model(name: str = "v3") -> PairModel:
    """A small model whose logits are far apart."""
    torch.manual_seed(0)
    head = MlpHeadConfig(hidden_dims=(8,), dropout=0.0)
    settings = ModelConfig(
        model=name, d_model=16, n_heads=2, encoder_layers=1, cross_attn_layers=2, mlp_head=head
    )
    model = build_model(settings, DIM)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def score(model: PairModel, data: PairData, settings: ScoringConfig = SMALL, **more: Any) -> Any:
    return score_pairs(model, data, settings, one_process(), **more)


@pytest.mark.parametrize("name", ["v3", "pooled", "factorised"])
def test_scores_are_those_of_the_model_pair_by_pair_in_their_order(name: str) -> None:
    data, model = every_pair(), make_model(name)
    scores = score(model, data)
    model.train(False)
    for row in range(0, len(data), 17):
        names = [data.table.proteins[i] for i in data.table.pairs[row]]
        residues = [torch.from_numpy(data.store[name]).float() for name in names]
        lengths = torch.tensor([len(protein) for protein in residues])
        with torch.no_grad():
            alone = model(torch.cat(residues), lengths, torch.tensor([[0, 1]])).logits
        assert float(scores[row]) == pytest.approx(float(alone), abs=1e-5)
    assert scores.dtype == np.float32
    assert scores.std() > 0.01


def test_scoring_leaves_the_mode_as_it_was() -> None:
    data = every_pair(4)
    for mode in (True, False):
        model = make_model().train(mode)
        score(model, data)
        assert model.training is mode


def with_pairs(data: PairData, pairs: NDArray[np.int64]) -> PairData:
    labels = np.zeros(len(pairs), dtype=np.int8)
    return PairData(PairTable(data.table.proteins, pairs, labels), data.store)


def test_a_pair_that_is_asked_for_again_or_mirrored_is_computed_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, model = every_pair(), make_model()
    several = with_pairs(data, np.array([[3, 5], [5, 3], [4, 4], [3, 5], [7, 3], [4, 4]]))
    computed: list[int] = []
    interact = model.interact_rows

    def count(rows: torch.Tensor, lengths: Any, pairs: Any) -> torch.Tensor:
        computed.append(len(pairs))
        return interact(rows, lengths, pairs)

    monkeypatch.setattr(model, "interact_rows", count)
    scores = score(model, several)
    assert sum(computed) == 3
    assert scores[0] == scores[1] == scores[3]
    assert scores[2] == scores[5]
    assert len({float(x) for x in scores}) == 3


def test_a_protein_is_encoded_and_prepared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data, model = every_pair(), make_model()
    encoded, prepared = [], []
    encode, prepare = model.encode_rows, model.prepare

    def count_encoded(residues: torch.Tensor, lengths: Any) -> torch.Tensor:
        encoded.append(len(residues))
        return encode(residues, lengths)

    def count_prepared(rows: torch.Tensor) -> torch.Tensor:
        prepared.append(len(rows))
        return prepare(rows)

    monkeypatch.setattr(model, "encode_rows", count_encoded)
    monkeypatch.setattr(model, "prepare", count_prepared)
    score(model, data)
    # One residue more asks the model how wide its rows are.
    assert sum(encoded) == sum(prepared) == data.protein_lengths.sum() + 1


@pytest.mark.parametrize("tile_residues", [64, 500, 10_000])
def test_a_plan_has_every_distinct_pair_once_in_tiles_of_the_size(tile_residues: int) -> None:
    data = every_pair()
    twice = np.concatenate([data.table.pairs, data.table.pairs[:50, ::-1]])
    tiles = plan_tiles(twice, data.protein_lengths, tile_residues)
    assert np.array_equal(np.sort(tiles.pairs[tiles.places]), np.sort(twice))
    assert len(np.unique(np.sort(tiles.pairs), axis=0)) == len(tiles.pairs) == len(data)
    covered = np.concatenate([np.arange(len(tiles.pairs))[piece] for piece in tiles.slices])
    assert covered.tolist() == list(range(len(tiles.pairs)))
    lengths = data.protein_lengths[tiles.pairs]
    assert (lengths[:, 0] >= lengths[:, 1]).all()
    for piece in tiles.slices:
        assert lengths[piece].sum() <= tile_residues or len(lengths[piece]) == 1


def test_tiles_of_a_complete_set_share_proteins() -> None:
    """A tile of 64 pairs needs 16 proteins at best; drawn at random it would need 94 of 100."""
    lengths = np.full(100, 10)
    pairs = np.array([(a, b) for a in range(100) for b in range(a, 100)])
    tiles = plan_tiles(np.random.default_rng(0).permutation(pairs), lengths, 64 * 20)
    needed = [len(np.unique(tiles.pairs[piece])) for piece in tiles.slices]
    assert np.mean(needed) < 20


@pytest.mark.parametrize("processes", [1, 2, 3, 8])
def test_tiles_are_dealt_by_cost(processes: int) -> None:
    data = every_pair()
    tiles = plan_tiles(data.table.pairs, data.protein_lengths, 300)
    left = list(range(1, len(tiles.slices)))
    hands = tiles.deal(left, processes)
    assert sorted(tile for hand in hands for tile in hand) == left
    loads = [tiles.costs[hand].sum() for hand in hands]
    assert max(loads) - min(loads) <= tiles.costs.max()


def test_proteins_still_needed_are_encoded_among_the_same_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """When scoring is resumed: another batch would give other last bits."""
    job = ScoringJob(make_model(), every_pair(), SMALL, one_process(), "test")
    batches: list[list[int]] = []
    encode = protein_states.encode_batch

    def noting(job: ScoringJob, proteins: Any, states: Any) -> torch.Tensor:
        batches.append(proteins.tolist())
        return encode(job, proteins, states)

    monkeypatch.setattr(protein_states, "encode_batch", noting)
    proteins = np.arange(len(job.data.table.proteins))
    with job.inferring():
        encode_proteins(job, proteins, proteins)
        whole = batches.copy()
        batches.clear()
        encode_proteins(job, proteins, np.array([0, 7]))
    assert len(whole) > 3
    assert batches == [batch for batch in whole if 0 in batch or 7 in batch]


def test_progress_is_logged_also_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    data, model = every_pair(), make_model()
    monkeypatch.setattr(long_work, "LOG_EVERY", 0.0)
    with record_log() as log:
        score(model, data, describe="validation")
    fields = [dict(f.split("=") for f in line.split(" | ")[1:]) for line in log.lines]
    assert {f["work"] for f in fields} == {"validation"}
    for unit, total in (("proteins", len(data.table.proteins)), ("pairs", len(data))):
        done = [int(f["done"]) for f in fields if f["unit"] == unit]
        assert len(done) > 3
        assert done == sorted(done)
        assert done[-1] == total
        assert {int(f["total"]) for f in fields if f["unit"] == unit} == {total}


@pytest.mark.parametrize("gib", [1e-6, 3e-4, 1.0])
def test_memory_decides_what_is_held_and_where_but_not_the_scores(gib: float) -> None:
    """Spilled to a file, held plain, held prepared."""
    data, model = every_pair(), make_model()
    settings = ScoringConfig(tile_residues=256, memory_gib=gib)
    job = ScoringJob(model, data, settings, one_process(), "test")
    proteins = np.arange(len(data.table.proteins))
    with job.inferring():
        held = encode_proteins(job, proteins, proteins)
    size = held.rows.numel() * held.rows.element_size()
    assert (held.file is not None) == (size > gib * GIB / 2) == (gib == 1e-6)
    assert held.prepared == (gib == 1.0)
    scores = score(model, data, settings)
    np.testing.assert_allclose(scores, score(model, data), atol=1e-5, rtol=0)


def test_a_file_for_states_gives_its_pages_back() -> None:
    """Pages of a mapped file count as memory of the process as long as it keeps them."""
    if not hasattr(mmap, "MADV_DONTNEED"):
        pytest.skip("this system cannot give pages back")
    rows, file = protein_states.map_file((64, 1024), torch.float32)
    rows.fill_(3.0)
    held = protein_states.ProteinStates(rows, np.zeros(1, int), np.array([64]), False, file)
    held._release()
    assert resident_pages(rows.data_ptr()) == 0
    assert float(rows.sum()) == 3.0 * 64 * 1024


def resident_pages(address: int) -> int:
    """The kilobytes that the system counts as held of the mapping that starts at an address."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"{address:x}-"))
    return int(next(x for x in lines[start:] if x.startswith("Rss:")).split()[1])


def test_no_room_for_the_file_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match=r"\(400 bytes\): No space left on device; make room"):
        protein_states.map_file((10, 10), torch.float32)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_states_held_in_half_precision_move_scores_a_little(dtype: Any) -> None:
    data, model = every_pair(), make_model()
    exact = score(model, data)
    rough = score(model, data, ScoringConfig(tile_residues=256, state_dtype=dtype))
    assert 0 < np.abs(exact - rough).max() < 0.1 * exact.std()


class StoppedError(Exception):
    """Stands for whatever ends a run."""


def stop_after(
    monkeypatch: pytest.MonkeyPatch, tiles: int, error: BaseException | None = None
) -> list[int]:
    """Makes scoring stop after some tiles; the list fills with each tile's number of pairs."""
    computed: list[int] = []
    whole = scoring.score_tile

    def few(model: Any, held: Any, pairs: NDArray[np.int64]) -> torch.Tensor:
        if len(computed) == tiles:
            raise error or StoppedError
        computed.append(len(pairs))
        return whole(model, held, pairs)

    monkeypatch.setattr(scoring, "score_tile", few)
    return computed


def kept_in(folder: Path) -> PartialScores:
    return PartialScores(folder, one_process())


def test_an_interrupted_scoring_goes_on_to_the_same_scores(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data, model = every_pair(), make_model()
    uninterrupted = score(model, data)
    monkeypatch.setattr(scoring, "SAVE_EVERY", 0.0)
    with monkeypatch.context() as patch:
        before = stop_after(patch, 30)
        with pytest.raises(StoppedError):
            score(model, data, partial=kept_in(tmp_path))
    with monkeypatch.context() as patch:
        after = stop_after(patch, 10_000)
        assert np.array_equal(score(model, data, partial=kept_in(tmp_path)), uninterrupted)
    assert sum(before) + sum(after) == len(data)
    with monkeypatch.context() as patch:
        again = stop_after(patch, 10_000)
        assert np.array_equal(score(model, data, partial=kept_in(tmp_path)), uninterrupted)
    assert again == []


def test_scores_of_another_model_or_of_other_embeddings_are_not_taken_up(tmp_path: Path) -> None:
    data, model = every_pair(), make_model()
    score(model, data, partial=kept_in(tmp_path))
    other = make_model()
    with torch.no_grad():
        other.get_parameter("encoder_norm.bias").add_(0.5)
    assert np.array_equal(score(other, data, partial=kept_in(tmp_path)), score(other, data))
    moved = every_pair(seed=1)
    assert np.array_equal(score(model, moved, partial=kept_in(tmp_path)), score(model, moved))
    assert len(list(tmp_path.iterdir())) == 3
    kept = kept_in(tmp_path)
    score(model, data, partial=kept)
    # As a process leaves it that is killed while it saves.
    (tmp_path / f".{kept.identity}.0.f32.0123.tmp").write_bytes(b"half")
    kept.clear()
    assert len(list(tmp_path.iterdir())) == 2


def test_two_evaluations_of_one_model_do_not_stop_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first to end cleared what the other was writing, which then said that it could not."""
    first, second = kept_in(tmp_path / "kept"), kept_in(tmp_path / "kept")
    first.identity = second.identity = "same"
    replace = Path.replace
    cleared: list[str] = []

    def clear_before(path: Path, target: Path) -> Path:
        if not cleared:
            cleared.append(path.name)
            first.clear()
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", clear_before)
    second.save(np.zeros(3, dtype=np.float32))
    assert cleared
    assert second.load("same", 3).tolist() == [0, 0, 0]


def test_a_damaged_file_of_scores_costs_its_tiles_only(tmp_path: Path) -> None:
    data, model = every_pair(), make_model()
    expected = score(model, data, partial=kept_in(tmp_path))
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert np.array_equal(score(model, data, partial=kept_in(tmp_path)), expected)


def test_what_several_processes_left_is_put_together(tmp_path: Path) -> None:
    for rank, known in enumerate(([1.0, np.nan, np.nan], [np.nan, np.nan, 3.0])):
        kept = kept_in(tmp_path)
        kept.identity = "same"
        kept.save(np.array(known, dtype=np.float32))
        (tmp_path / "same.0.f32").rename(tmp_path / f"same.{rank + 1}.f32")
    found = kept_in(tmp_path).load("same", 3)
    np.testing.assert_array_equal(found, np.array([1.0, np.nan, 3.0], dtype=np.float32))


def test_scores_of_another_plan_are_not_taken_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Kept by places in the plan of a GPU, they were taken up in that of a CPU: on other pairs."""
    data, model = every_pair(), make_model()
    for size in (200, 500):
        monkeypatch.setattr(scoring_job, "CPU_TILE", size)
        expected = score_pairs(model, data, ScoringConfig(), one_process())
        kept = kept_in(tmp_path)
        again = score_pairs(model, data, ScoringConfig(), one_process(), partial=kept)
        assert np.array_equal(again, expected)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_signal_keeps_what_is_scored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data, model = every_pair(), make_model()
    uninterrupted = score(model, data)
    with monkeypatch.context() as patch:
        before = stop_after(patch, 30, Paused("on SIGTERM"))
        with pytest.raises(Paused):
            score(model, data, partial=kept_in(tmp_path))
    with monkeypatch.context() as patch:
        after = stop_after(patch, 10_000)
        assert np.array_equal(score(model, data, partial=kept_in(tmp_path)), uninterrupted)
    assert sum(before) + sum(after) == len(data)


DRIVER = """
import sys
import numpy as np
import torch
from accelerate import Accelerator
from common.inference.scoring import score_pairs
from tests.test_scoring import SMALL, every_pair, make_model

accelerator = Accelerator(cpu=not torch.cuda.is_available())
model = make_model().to(accelerator.device)
scores = score_pairs(model, every_pair(), SMALL, accelerator)
np.save(f"{sys.argv[1]}/rank{accelerator.process_index}.npy", scores)
accelerator.end_training()
"""


@pytest.mark.two_processes
def test_two_processes_give_the_scores_of_one_to_the_last_bit(tmp_path: Path) -> None:
    """A batch of proteins and a tile are the same on any number of processes."""
    driver = tmp_path / "driver.py"
    driver.write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{DRIVER}")
    config = ROOT / "accelerate_configs" / "cpu_2proc.yaml"
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)]
    launch += ["--main_process_port", "0", str(driver), str(tmp_path)]
    done = subprocess.run(launch, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    torch.set_num_threads(1)
    expected = score(make_model(), every_pair())
    for rank in (0, 1):
        assert np.array_equal(np.load(tmp_path / f"rank{rank}.npy"), expected)
