"""Every command of the documentation is run by a test, or a mark above it says why not.

A mark is a comment in the line above a block: `<!-- run by: tests/FILE.py -->` names a test that
runs the commands, with other paths and a small model; `<!-- not run: REASON -->` gives a reason. In
both cases the options of the scripts and the keys after `--set` must exist.
"""

from __future__ import annotations

import ast
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from common.config_file import load_config
from common.registry import MODELS
from scripts.reference.command_line import load_script
from tests.tiny_benchmark import ROOT, SPECIES, TinyProject, call_main

PAGES = [*ROOT.glob("*.md"), *sorted(ROOT.glob("docs/**/*.md")), *ROOT.glob("examples/**/*.md")]
BLOCK = re.compile(r"^ *((?:<!-- [^\n]* -->)?)\n( *)```(?:ba)?sh\n(.*?)```", re.M | re.S)
MARK = re.compile(r"<!-- (run by|not run): (.+) -->")
# Placeholders of files that only a reader has.
PLACEHOLDERS = {"C": "configs/v3.yaml", "LOGS/config.yaml": "configs/v3.yaml"}


class Block(NamedTuple):
    """A block of shell commands, and what the mark above it says."""

    page: Path
    mark: str
    text: str

    def commands(self) -> Iterator[list[str]]:
        """The words of each command that starts one of the three scripts, from its name on."""
        for line in self.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] == "sbatch":  # its script has arguments of its own
                continue
            for start, word in enumerate(words):
                script = re.sub(r"^(?:.*[/( ])?(\w+\.py)$", r"\1", word)
                if script in ("pretrain.py", "finetune.py", "evaluate.py"):
                    yield [script, *(last.rstrip(")") for last in words[start + 1 :])]


def collect() -> list[Block]:
    return [
        Block(page, mark, text)
        for page in PAGES
        for mark, _, text in BLOCK.findall("\n" + page.read_text())
    ]


BLOCKS = collect()
IDS = [f"{block.page.relative_to(ROOT)}:{number}" for number, block in enumerate(BLOCKS)]


def test_no_block_is_overlooked() -> None:
    assert len(BLOCKS) == sum(len(re.findall("```(?:ba)?sh", page.read_text())) for page in PAGES)


@pytest.mark.parametrize("block", BLOCKS, ids=IDS)
def test_a_block_is_run_or_says_why_not(block: Block) -> None:
    mark = MARK.fullmatch(block.mark)
    assert mark, f"the block needs a mark in the line above it:\n{__doc__}"
    if mark[1] == "run by":
        test = (ROOT / mark[2]).read_text()
        # Either the test reads a page with the command, or it names what the command consists of.
        read = [other for other in BLOCKS if other.page.name in test]
        for command in block.commands():
            used = {word for word in command if word.startswith("--")} - {"--config"}
            named = all(f'"{word}"' in test for word in (command[0], *used))
            assert named or any(command in other.commands() for other in read), command


@pytest.mark.parametrize("block", BLOCKS, ids=IDS)
def test_options_and_keys_exist(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setitem(MODELS._entries, "cosine", None)  # registered by examples/adding_a_model
    for script, *words in block.commands():
        parser, _ = load_script(script.removesuffix(".py"))
        arguments = parser.parse_args([word for word in words if word != "..."])
        if arguments.config:
            config = PLACEHOLDERS.get(arguments.config, arguments.config)
            load_config(config, "evaluate", arguments.overrides)


def test_the_judgements_and_the_prediction_of_the_readme_run(
    pretrained: tuple[TinyProject, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the config, checkpoint and files of a small project in the places of the reader's."""
    project, best = pretrained
    shutil.copy(ROOT / "examples" / "own_proteins" / "proteins.fasta", tmp_path)
    shutil.copy(project.folder / "data" / SPECIES / "BFS" / f"{SPECIES}_test_ppi.txt", tmp_path)
    monkeypatch.chdir(tmp_path)
    files = {"C": project.config, "DIR": best, "FILE": f"{SPECIES}_test_ppi.txt"}
    commands = [
        [str(files.get(word, word)) for word in words]
        for block in BLOCKS
        if block.page.name == "README.md" and block.page.parent == ROOT
        for script, *words in block.commands()
        if script == "evaluate.py" and files.keys() & set(words)
    ]
    for number, words in enumerate(commands):
        judging = [
            "--set",
            f"run_config.eval_run_id=judge{number}",
            f"run_config.output_dir={tmp_path}",
        ]
        judging = judging if "--config" in words else []
        call_main(project, "evaluate.py", *words, *judging, config=False)
    assert (tmp_path / "network.tsv").is_file()
    assert len(list(tmp_path.glob("logs/*/evaluate/*/evaluate.csv"))) == len(commands) - 1


def messages() -> str:
    """Every text in the code, one a line, with `…` for values."""
    texts = []
    for path in (*ROOT.glob("*.py"), *ROOT.glob("common/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            known = [part.value if isinstance(part, ast.Constant) else "…" for part in parts]
            texts.append("".join(str(part) for part in known))
    return "\n".join(texts)


def test_quoted_messages_exist() -> None:
    """The first column of the tables of messages quotes the code; `…` stands for anything."""
    texts, quoted = messages(), []
    for page in ("troubleshooting.md", "own_data.md"):
        text = (ROOT / "docs" / page).read_text() + "\n\n"
        for table in re.findall(r"^\| message \|.*?\n\n", text, re.M | re.S):
            quoted += re.findall(r"^\| `([^`]+)` \|", table, re.M)
    assert len(quoted) > 30
    for message in quoted:
        pattern = "[^\n]*".join(re.escape(part) for part in message.split("…"))
        assert re.search(pattern, texts), message
