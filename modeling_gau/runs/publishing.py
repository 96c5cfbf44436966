# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Pushing what a run made to the Hub: checked before anything is computed, and taken up again where it broke off."""

import shlex
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

from huggingface_hub import CommitInfo, HfApi, constants, get_token, is_offline_mode
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from .checkpoints import replaced


# What Trainer.push_to_hub leaves out.
LEFT_OUT = ("_*", f"{PREFIX_CHECKPOINT_DIR}-*")


def check_push_destination(args: TrainingArguments) -> str | None:
    """Makes sure that `--push_to_hub` will be able to push: the name is legal, the Hub is there, and the token may
    write. To be called before the data is read, where the Trainer would find out only behind that.

    Creates the repository (private with `hub_private_repo`) and the branch `hub_revision` where they are missing: only
    the Hub knows whether a token may do that. In a run of several processes only the first one asks.

    Returns:
        The id of the repository with its namespace; None where nothing is to be pushed, and in the other processes.

    Raises:
        ValueError: the name cannot be one, there is no token, or the Hub refuses it.
    """
    if not args.push_to_hub or args.process_index != 0:
        return None
    name = _repository_name(args)
    if is_offline_mode():
        raise ValueError("--push_to_hub needs the Hub, and HF_HUB_OFFLINE forbids to ask it: unset one of the two.")
    token = args.hub_token or get_token()
    if not token:
        raise ValueError(
            f"--push_to_hub: there is no token to write to {name} with. Log in with `hf auth login`, set HF_TOKEN, or "
            "give --hub_token."
        )
    api = HfApi(library_name="transformers", token=token)
    try:
        with _Note(f"{constants.ENDPOINT} was asked for --push_to_hub, before anything was computed."):
            # Says that all is well where the repository exists, also to who may only read it.
            repo_id = api.create_repo(name, private=args.hub_private_repo, exist_ok=True).repo_id
            api.auth_check(repo_id, write=True)
            if args.hub_revision is not None and not api.revision_exists(repo_id, args.hub_revision):
                api.create_branch(repo_id, branch=args.hub_revision)
    except HfHubHTTPError as error:
        raise ValueError(_refusal(error, name)) from error
    return repo_id


def _repository_name(args: TrainingArguments) -> str:
    """As the Trainer takes it: `hub_model_id`, or the last part of the output directory."""
    name, origin = args.hub_model_id, "--hub_model_id"
    if name is None:
        name, origin = Path(args.output_dir).absolute().name, "the last part of --output_dir; give --hub_model_id"
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ValueError(f"--push_to_hub: {name!r} ({origin}) cannot be the name of a repository. {error}") from error
    return name


def _refusal(error: HfHubHTTPError, name: str) -> str:
    status = error.response.status_code
    if status == 401:
        reason = "it does not know the token. Log in with `hf auth login --force`, or correct HF_TOKEN or --hub_token"
    elif status in (403, 404):
        reason = (
            "the token may not write there. Take a token with the role `write` (or one with write access to this "
            "repository), or a --hub_model_id in a namespace of your own"
        )
    else:
        reason = f"it answered {status}. {error}"
    return f"--push_to_hub: {constants.ENDPOINT} refuses to take {name}: {reason}."


def save_without_push(trainer: Trainer) -> None:
    """`trainer.save_model()` without the push that it makes with `--push_to_hub`: evaluation and model card are still
    to come, and must not be lost to a network that fails."""
    with replaced(trainer.args, push_to_hub=False):
        trainer.save_model()


def push(trainer: Trainer) -> CommitInfo | None:
    """`trainer.push_to_hub()`, whose errors say where the model is and how to upload it without training again.

    Returns:
        The commit; None in processes other than the first.
    """
    with _Note(_way_on(str(trainer.hub_model_id), trainer.args)):
        return trainer.push_to_hub()


def push_folder(repo_id: str, args: TrainingArguments) -> CommitInfo:
    """Uploads `args.output_dir` of a run that is over, as [`push`] does that of a trainer."""
    with _Note(_way_on(repo_id, args)):
        return HfApi(library_name="transformers", token=args.hub_token).upload_folder(
            repo_id=repo_id,
            folder_path=args.output_dir,
            commit_message="End of training",
            ignore_patterns=list(LEFT_OUT),
            revision=args.hub_revision,
        )


def _way_on(repo_id: str, args: TrainingArguments) -> str:
    command = ["hf", "upload", repo_id, str(args.output_dir), "."]
    for pattern in LEFT_OUT:
        command += ["--exclude", pattern]
    if args.hub_revision is not None:
        command += ["--revision", args.hub_revision]
    token = " with HF_TOKEN set to your token" if args.hub_token else ""
    return (
        f"The upload to {repo_id} was not finished, but nothing is lost: the model is saved in "
        f"{args.output_dir}. This command{token} uploads what is missing, without training again:\n"
        f"    {shlex.join(command)}"
    )


class _Note(AbstractContextManager):
    """Adds a note to every exception that leaves the block, an interruption by the user included."""

    def __init__(self, text: str):
        self.text = text

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(self.text)
