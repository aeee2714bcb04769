"""A benchmark of a few dozen proteins in the real nested layout, and a config that runs on it."""

from __future__ import annotations

import importlib.util
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import yaml
from accelerate.state import AcceleratorState

from tests.tiny_esm import save_tiny_esm

ROOT = Path(__file__).parents[1]
SPECIES = "tiny"
TRAIN, TEST = 40, 24


@dataclass(frozen=True)
class TinyProject:
    """A folder with data, a language model and a config."""

    folder: Path
    config: Path

    @property
    def output(self) -> Path:
        return self.folder / "runs"

    def command(self, script: str, *arguments: str, processes: int = 1) -> list[str]:
        """An entry script's command: plain on one process, by `accelerate launch` on two."""
        command = [sys.executable]
        if processes == 2:
            config = ROOT / "accelerate_configs" / "cpu_2proc.yaml"
            command += ["-m", "accelerate.commands.launch", "--config_file", str(config)]
        return [*command, str(ROOT / script), "--config", str(self.config), *arguments]

    def launch(self, script: str, *arguments: str, processes: int = 1) -> Finished:
        """Run an entry script to its end."""
        return self.run(self.command(script, *arguments, processes=processes))

    def run(self, command: Sequence[str]) -> Finished:
        """Run any command here to its end."""
        return run_command(command, self.folder)

    def run_code(self, code: str) -> Finished:
        """Run Python code that may use the name ROOT, the checkout."""
        return run_command([sys.executable, "-c", f"ROOT = {str(ROOT)!r}\n{code}"], self.folder)


@dataclass(frozen=True)
class Finished:
    """A process that has ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def result(self) -> Path:
        """The path that a training stage printed."""
        assert self.code == 0, self.stderr
        return Path(self.stdout.strip().splitlines()[-1])


def environment_of(**more: str) -> dict[str, str]:
    """The environment of a launched script: one thread, offline."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **more}


def run_command(command: Sequence[str], folder: Path, **environment: str) -> Finished:
    """Run in a folder with one thread, offline, waiting at most two minutes."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment_of(**environment),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def call_main(project: TinyProject, script: str, *arguments: str, config: bool = True) -> None:
    """Call a script's main function in this process: seconds faster, its errors whole."""
    spec = importlib.util.spec_from_file_location(f"relic_{script[:-3]}", ROOT / script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    AcceleratorState._reset_state(reset_partial_state=True)
    with pytest.MonkeyPatch.context() as patch:
        named = ["--config", str(project.config)] if config else []
        patch.setattr(sys, "argv", [script, *named, *arguments])
        patch.setenv("ACCELERATE_USE_CPU", "true")
        module.main()


def make_project(folder: Path, **training: Any) -> TinyProject:
    """Write a whole project: benchmark, language model and `config.yaml`."""
    write_benchmark(folder / "data")
    write_functional(folder / "functional", folder / "data")
    save_tiny_esm(folder / "esm")
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(make_config(folder, **training)))
    return TinyProject(folder, config)


def make_config(folder: Path, **training: Any) -> dict[str, Any]:
    """A config of seconds: two epochs of a model 16 wide."""
    return {
        "run_config": {"output_dir": str(folder / "runs")},
        "data_config": {
            "benchmark": {
                "root_dir": str(folder / "data"),
                "species": SPECIES,
                "cache_dir": str(folder / "cache" / "pairs"),
                "functional_dir": str(folder / "functional"),
            },
            "embeddings": {
                "model_name": str(folder / "esm"),
                "cache_dir": str(folder / "cache" / "embeddings"),
            },
            "max_sequence_length": 60,
        },
        "model_config": {
            "d_model": 16,
            "n_heads": 2,
            "encoder_layers": 1,
            "cross_attn_layers": 1,
            "mlp_head": {"hidden_dims": [8], "dropout": 0.0},
            "regularization": {"dropout": 0.0},
        },
        "training_config": {
            "epochs": 2,
            "batch_size": 8,
            "logging": {"validation_metrics": ["auroc", "auprc"], "heartbeat_every_n_steps": 4},
            "optimizer": {"lr": 2e-3},
            **training,
        },
        # Only the report's own tests draw it.
        "evaluate": {"report": False},
        "finetune": {"training_config": {"epochs": 1}},
    }


def write_benchmark(root: Path, seed: int = 0) -> None:
    """Train and test sides without a common protein, self-pairs, node sets, one split."""
    rng = np.random.default_rng(seed)
    names = [f"P{i:03d}" for i in range(TRAIN + TEST)]
    folder = root / SPECIES / "BFS"
    folder.mkdir(parents=True)
    (root / SPECIES / f"{SPECIES}_simple.fasta").write_text(
        "".join(f">{name}\n{_sequence(rng)}\n" for name in names)
    )
    train_side = _labelled_pairs(rng, names[:TRAIN], 105)
    test_side = _labelled_pairs(rng, names[TRAIN:], 50)
    _write_pairs(folder / f"{SPECIES}_train_ppi.txt", train_side[:75])
    _write_pairs(folder / f"{SPECIES}_val_ppi.txt", train_side[75:])
    _write_pairs(folder / f"{SPECIES}_test_ppi.txt", test_side)
    graph = nx.Graph([(a, b) for a, b, label in test_side if label])
    graph.add_nodes_from(names[TRAIN:])
    (folder / f"{SPECIES}_test_graph.pkl").write_bytes(pickle.dumps(graph))
    sets = {8: [set(names[TRAIN : TRAIN + 8]), set(names[-8:])], 12: [set(names[-12:])]}
    (folder / "test_sampled_nodes.pkl").write_bytes(pickle.dumps(sets))


def write_functional(folder: Path, benchmark: Path) -> None:
    """Complexes, GO terms and essential proteins of the test side, in the benchmark's formats."""
    folder.mkdir()
    graph = pickle.loads((benchmark / SPECIES / "BFS" / f"{SPECIES}_test_graph.pkl").read_bytes())
    names = sorted(graph)
    complexes = [nx.Graph(graph.subgraph(names[i : i + 4])) for i in (0, 4, 4, 8)]
    (folder / "complex_graphs.pkl").write_bytes(pickle.dumps(complexes))
    fasta = (benchmark / SPECIES / f"{SPECIES}_simple.fasta").read_text()
    (folder / "complex_proteins.fasta").write_text(fasta)
    terms = {
        name: {"go_p": [f"GO:{i % 3}", f"GO:{i % 5}"], "go_f": [], "go_c": []}
        for i, name in enumerate(names)
    }
    (folder / "test_go_terms.pkl").write_bytes(pickle.dumps(terms))
    by_degree = sorted(names, key=lambda name: (-graph.degree(name), name))
    for kind, chosen in (("essential", by_degree[:8]), ("non_essential", by_degree[8:16])):
        (folder / f"selected_{kind}_proteins.txt").write_text("\n".join(chosen) + "\n")


def write_repository(folder: Path) -> None:
    """Write the benchmark and the functional data where the benchmark's repository has them."""
    data = folder / "data_process" / "pring_dataset"
    write_benchmark(data)
    write_functional(folder / "functional", data)
    for name, place in {
        "complex_graphs.pkl": "complex_pathway/data/complex_graphs.pkl",
        "complex_proteins.fasta": "complex_pathway/data/complex_proteins.fasta",
        "test_go_terms.pkl": "enrichment_analysis/test_BFS_go_terms.pkl",
        "selected_essential_proteins.txt": "essential_protein/selected_essential_proteins.txt",
        "selected_non_essential_proteins.txt": (
            "essential_protein/selected_non_essential_proteins.txt"
        ),
    }.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder / "functional" / name, folder / place)


def _sequence(rng: np.random.Generator) -> str:
    return "".join(rng.choice(list("LAGVSERTIDPKQNFYMHWC"), rng.integers(10, 70)))


def _labelled_pairs(
    rng: np.random.Generator, names: Sequence[str], count: int
) -> list[tuple[str, str, int]]:
    """Distinct pairs: a few positive self-pairs, then about as many positives as negatives."""
    pairs = {(name, name): 1 for name in names[:3]}
    while len(pairs) < count:
        a, b = sorted(rng.choice(names, 2, replace=False).tolist())
        pairs.setdefault((a, b), int(rng.random() < 0.5))
    return [(a, b, label) for (a, b), label in pairs.items()]


def _write_pairs(path: Path, pairs: Sequence[tuple[str, str, int]]) -> None:
    path.write_text("".join(f"{a}\t{b}\t{label}\n" for a, b, label in pairs))
