"""Fetch and push checkpoints on the Hugging Face hub (`user/repo` or `user/repo@revision`).

Only the files of a checkpoint are fetched and pushed, none of which can run code. Fetched files
stay in the hub's local cache. A local directory of the same name takes precedence.
"""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import HfApi, constants, get_token, snapshot_download
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from common.errors import UserError, excerpt

NEEDED_FILES = ("config.json", "model.safetensors", "config.yaml", "decision.json")
CHECKPOINT_FILES = (*NEEDED_FILES, "training_pairs.npy", "training_proteins.npy", "README.md")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


def is_hub_name(name: str) -> bool:
    """Return whether a name has the form of a hub model, `user/repo`, and is no directory."""
    return bool(_HUB_NAME.fullmatch(name)) and not Path(name).is_dir()


def is_hub_copy(directory: Path) -> bool:
    """Return whether a directory is in the hub's local cache, and so must not be changed."""
    snapshots = directory.absolute().parent
    return snapshots.name == "snapshots" and snapshots.parent.name.startswith("models--")


def fetch_checkpoint(name: str | Path, revision: str | None = None) -> Path:
    """Return the directory of a checkpoint, downloading it from the hub if necessary.

    Args:
        name: A directory, or `user/repo` or `user/repo@revision` on the hub.
        revision: A branch, a tag or a commit on the hub.

    Raises:
        UserError: The hub cannot be reached, or has no such checkpoint that the user may read.
    """
    if not is_hub_name(str(name)):
        if revision is not None:
            raise UserError(
                f"{name} is a path, so it has no revision; leave out the revision {revision}, or"
                " give the name of a model on the Hugging Face hub, user/repo"
            )
        return Path(name)
    repo, _, given = str(name).partition("@")
    revision = revision or given or None
    try:
        directory = Path(
            snapshot_download(repo, revision=revision, allow_patterns=[*CHECKPOINT_FILES])
        )
    # The client also raises errors of its HTTP library, which share no base class with its own.
    except Exception as error:
        raise UserError(_explain_missing(repo, revision, error)) from None
    for needed in NEEDED_FILES:
        if not (directory / needed).is_file():
            raise UserError(
                f"{repo} on the Hugging Face hub (commit {directory.name}) is not a checkpoint of"
                f" this program: it has no {needed}; name a model that --push-to-hub has pushed"
            )
    return directory


def pin_checkpoint(name: str) -> str:
    """Add the present commit to the name of a hub model; return a path unchanged.

    With the commit, all processes load the same model, and so does a run that is resumed later.
    """
    if not is_hub_name(name):
        return name
    return f"{name.partition('@')[0]}@{fetch_checkpoint(name).name}"


def check_push(repo: str | None, public: bool, checkpoint: str | None) -> None:
    """Reject a push that cannot succeed, before any work starts.

    Args:
        repo: The model on the hub to push to; None if nothing is to be pushed.
        public: Whether a new model is to be public.
        checkpoint: The name of the checkpoint, if one was given.

    Raises:
        UserError: The name is wrong, there is no token, or the checkpoint is on the hub already.
    """
    if repo is None:
        if public:
            raise UserError("--public has no effect without --push-to-hub; give --push-to-hub too")
        return
    if not _HUB_NAME.fullmatch(repo) or "@" in repo:
        raise UserError(
            f"--push-to-hub {excerpt(repo)} is not the name of a model; give user/repo, where user"
            " is your account or organisation on the Hugging Face hub"
        )
    if checkpoint is not None and is_hub_name(checkpoint):
        raise UserError(
            f"--checkpoint {checkpoint} is on the hub already, but --push-to-hub needs a checkpoint"
            " on this machine; give a directory"
        )
    if constants.HF_HUB_OFFLINE:
        raise UserError(
            "--push-to-hub needs the network, but HF_HUB_OFFLINE is set; unset HF_HUB_OFFLINE"
        )
    if get_token() is None:
        raise UserError(
            "--push-to-hub needs an access token that may write; set HF_TOKEN to a token from"
            " https://huggingface.co/settings/tokens"
        )


def push_checkpoint(directory: Path, repo: str, public: bool) -> str:
    """Push a checkpoint's files to a hub model in one commit, creating the model if necessary.

    Args:
        directory: The checkpoint.
        repo: `user/repo`.
        public: Whether a new model is public; an existing one stays as it is.

    Returns:
        The address of the commit.

    Raises:
        UserError: The hub cannot be reached or refuses the push.
    """
    api = HfApi()
    try:
        api.create_repo(repo, private=not public, exist_ok=True)
        done = api.upload_folder(
            repo_id=repo,
            folder_path=directory,
            allow_patterns=[*CHECKPOINT_FILES],
            commit_message="Add a checkpoint of RELIC",
        )
    except Exception as error:  # for the reason given in `fetch_checkpoint`
        raise UserError(
            f"{directory} cannot be pushed to {repo} on the Hugging Face hub ({_reason(error)});"
            " the results are saved, so push the directory later with"
            f" `hf upload {repo} {directory}`"
        ) from None
    return str(done.commit_url)


def _explain_missing(repo: str, revision: str | None, error: Exception) -> str:
    if isinstance(error, RevisionNotFoundError):
        return (
            f"{repo} on the Hugging Face hub has no revision '{revision}'; name one of its"
            " branches, tags or commits"
        )
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"there is neither a directory {repo} nor a model of this name on the Hugging Face hub"
            " that you may read; correct the name, or set HF_TOKEN if the model is private"
        )
    reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else _reason(error)
    return (
        f"there is no directory {repo}, and the model of this name cannot be fetched from the"
        f" Hugging Face hub ({reason}); correct the path, or connect to the internet once"
    )


def _reason(error: Exception) -> str:
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return excerpt(first.rstrip(".:"), limit=200)
