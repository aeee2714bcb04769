"""`scripts/slurm/` on a real SLURM: `RELIC_RUN_SLURM_E2E=1 python -m pytest tests/cluster`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.slurm_cluster import Job, Slurm, running_cluster, why_not
from tests.rank_program import HARD
from tests.same_run import assert_same_run
from tests.tiny_benchmark import TinyProject, make_project

BATCH, PIPELINE = "scripts/slurm/v3.sbatch", "scripts/slurm/pipeline.sh"
EPOCHS = 30
# Long enough for three interruptions; SLURM looks at time limits every half minute only.
MANY_EPOCHS = 120
CPU = {"ACCELERATE": "--mixed_precision no"}


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    if os.environ.get("RELIC_RUN_SLURM_E2E") != "1":
        pytest.skip("starts a SLURM cluster, for minutes: set RELIC_RUN_SLURM_E2E=1")
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    with running_cluster(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster
        sys.stderr.write(cluster.on("sacct", "--duplicates", *SACCT) + "\n")


SACCT = ["--format=JobID%8,JobName%14,State%20,ExitCode,NodeList%12,Elapsed,Start"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> TinyProject:
    """A project whose config has all that a resumed run must bring back."""
    project = make_project(tmp_path_factory.mktemp("cluster"), batch_size=4)
    config = yaml.safe_load(project.config.read_text())
    for setting in [*HARD, f"training_config.epochs={EPOCHS}"]:
        key, _, value = setting.partition("=")
        *sections, last = key.split(".")
        section = config
        for name in sections:
            section = section.setdefault(name, {})
        section[last] = yaml.safe_load(value)
    config["finetune"] = {"training_config": {"epochs": 3}}
    project.config.write_text(yaml.safe_dump(config))
    return project


def lengthen(project: TinyProject) -> Path:
    """Write a configuration that trains for `MANY_EPOCHS`."""
    config = yaml.safe_load(project.config.read_text())
    config["training_config"]["epochs"] = MANY_EPOCHS
    path = project.config.with_name("long.yaml")
    path.write_text(yaml.safe_dump(config))
    return path


def models_of(project: TinyProject, run_id: str, stage: str = "pretrain") -> Path:
    return project.output / "models" / "v3" / stage / run_id


def log_of(project: TinyProject, run_id: str, stage: str = "pretrain") -> str:
    path = project.output / "logs" / "v3" / stage / run_id / "log.log"
    return path.read_text() if path.exists() else ""


def wait_for_log(job: Job, project: TinyProject, run_id: str, launch: int, text: str) -> None:
    """Until this launch of a run, counted from 1, has logged this."""
    job.wait_until(
        lambda _: text in "".join(log_of(project, run_id).split("pipeline_bootstrap")[launch:])
    )


def resume_now(job: Job, restarts: int) -> None:
    """Wait until a job is queued again, and let it start in seconds instead of two minutes.

    Not at once: a node refuses a job within the second in which it has ended that job.
    """
    job.wait_until(lambda facts: facts["Restarts"] == str(restarts))
    job.wait_until(lambda facts: facts["JobState"] == "PENDING")
    job.slurm.on("scontrol", "update", f"JobId={job.number}", "StartTime=now+5", "TimeLimit=30")


def pipeline(slurm: Slurm, project: TinyProject, run_id: str, nodes: int, **more: str) -> list[Job]:
    """Submit the three stages."""
    said = slurm.on(PIPELINE, str(project.config), run_id, *slurm.options(nodes), **CPU, **more)
    return [Job(slurm, line.rpartition(" ")[2]) for line in said.splitlines()]


def test_the_pipeline_runs_on_two_nodes(slurm: Slurm, project: TinyProject) -> None:
    """Two nodes, and one with two processes, end with the same bits in every stage."""
    runs = {"two": pipeline(slurm, project, "two", nodes=2)}
    runs["one"] = pipeline(slurm, project, "one", nodes=1, PROCESSES="2")
    for jobs in runs.values():
        for job in jobs:
            assert job.end() == "COMPLETED", job.output()
    for stage, epochs in (("pretrain", EPOCHS), ("finetune", 3)):
        assert_same_run(models_of(project, "one", stage), models_of(project, "two", stage), epochs)
    for stage, before in (("finetune", "pretrain"), ("evaluate", "finetune")):
        start = models_of(project, "two", before) / "best_model"
        assert f"checkpoint={start}" in log_of(project, "two", stage)
    logs = project.output / "logs" / "v3" / "evaluate"
    figures = [(logs / run / "evaluate.csv").read_bytes() for run in runs]
    assert figures[0] == figures[1]


def test_an_interrupted_job_is_queued_again_and_ends_the_same(
    slurm: Slurm, project: TinyProject
) -> None:
    """A signal, a more urgent job, and the time limit: all three save in mid-epoch."""
    config = str(lengthen(project))
    job = slurm.submit(
        "--time=30", "--signal=USR1@110", BATCH, "pretrain.py", config, "cut", nodes=2, **CPU
    )
    wait_for_log(job, project, "cut", 1, "step | epoch=3")
    slurm.on("scancel", "--signal=USR1", job.number)
    resume_now(job, 1)
    assert "stage_paused | stage=pretrain | reason=in epoch" in log_of(project, "cut")

    wait_for_log(job, project, "cut", 2, "epoch_complete")
    urgent = slurm.submit("--partition=urgent", "--exclusive", "--wrap=hostname", nodes=4)
    resume_now(job, 2)
    assert urgent.end() == "COMPLETED"
    assert log_of(project, "cut").count("stage_paused | stage=pretrain | reason=in epoch") == 2

    wait_for_log(job, project, "cut", 3, "epoch_complete")
    # The limit is in whole minutes, and the notice of almost two has begun by then.
    limit = int(job.facts()["RunTime"].split(":")[1]) + 2
    slurm.on("scontrol", "update", f"JobId={job.number}", f"TimeLimit={limit}")
    resume_now(job, 3)
    assert log_of(project, "cut").count("stage_paused | stage=pretrain | reason=in epoch") == 3
    whole = slurm.submit(BATCH, "pretrain.py", config, "whole", nodes=2, **CPU)
    assert [job.end(), whole.end()] == ["COMPLETED"] * 2, job.output() + whole.output()
    assert_same_run(models_of(project, "cut"), models_of(project, "whole"), MANY_EPOCHS)


def test_a_stage_that_fails_ends_the_chain_and_says_why(slurm: Slurm, project: TinyProject) -> None:
    wrong = "data_config.benchmark.species=unicorn"
    first, *later = pipeline(slurm, project, "wrong", nodes=2, SET=wrong)
    assert first.end() == "FAILED"
    assert [job.end() for job in later] == ["CANCELLED", "CANCELLED"]
    last = first.output().splitlines()[-1]
    assert last.startswith(
        f"job {first.number} (pretrain, run wrong) failed, and jobs that depend on it will not run:"
        " pretrain.py: error:"
    )
    assert "unicorn" in last


def test_a_pipeline_with_a_wrong_configuration_is_not_submitted(
    slurm: Slurm, project: TinyProject
) -> None:
    with pytest.raises(AssertionError, match=r"unknown key 'training_config\.epoch'"):
        pipeline(slurm, project, "typo", nodes=1, SET="training_config.epoch=3")


def test_an_array_over_seeds_shares_one_embedding_cache(slurm: Slurm, project: TinyProject) -> None:
    fresh = f"data_config.embeddings.cache_dir={project.folder / 'fresh'} training_config.epochs=3"
    array = slurm.submit(
        "--array=1-3", BATCH, "pretrain.py", str(project.config), "seeds", nodes=1, **CPU, SET=fresh
    )
    numbers = [f"{array.number}_{seed}" for seed in (1, 2, 3)]
    assert [Job(slurm, number).end() for number in numbers] == ["COMPLETED"] * 3
    logs = [log_of(project, f"seeds-seed{seed}") for seed in (1, 2, 3)]
    computed = [int(log.partition("computed=")[2].split()[0]) for log in logs]
    assert sum(computed) == 39
    assert [log.partition("seed=")[2].split()[0] for log in logs] == ["1", "2", "3"]
