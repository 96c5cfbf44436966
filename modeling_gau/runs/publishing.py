# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""The push to the Hub: checked before anything is computed, and resumable by a command if it breaks."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import CommitInfo, HfApi, constants, get_token, is_offline_mode
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id
from transformers import Trainer, TrainingArguments

from ..configuration_gau import GAUError
from .trainer import LEFT_OUT, replaced


def check_push_destination(args: TrainingArguments) -> str | None:
    """Makes sure that `--push_to_hub` will work: the name is legal, the Hub answers, and the token may write.

    Call it before the data is read; the Trainer would find out only after that. Creates the repository (private with
    `hub_private_repo`) and the branch `hub_revision` if they are missing, since only that shows that the token may.
    Only the first process asks.

    Returns:
        The id of the repository with its namespace; None without `--push_to_hub` and in other processes.

    Raises:
        ValueError: the name is illegal, there is no token, or the Hub refuses it.
    """
    if not args.push_to_hub or args.process_index != 0:
        return None
    name = _repository_name(args)
    if is_offline_mode():
        raise GAUError("--push_to_hub needs the Hub, but HF_HUB_OFFLINE is set: drop one of the two.")
    token = args.hub_token or get_token()
    if not token:
        raise GAUError(
            f"--push_to_hub: there is no token to write to {name} with. Run `hf auth login`, set HF_TOKEN or give "
            "--hub_token."
        )
    api = HfApi(library_name="transformers", token=token)
    try:
        with _note(f"--push_to_hub asked {constants.ENDPOINT}; nothing was computed yet."):
            # Succeeds for an existing repository even with read access only, hence the check after it.
            repo_id = api.create_repo(name, private=args.hub_private_repo, exist_ok=True).repo_id
            api.auth_check(repo_id, write=True)
            if args.hub_revision is not None and not api.revision_exists(repo_id, args.hub_revision):
                api.create_branch(repo_id, branch=args.hub_revision)
    except HfHubHTTPError as error:
        raise GAUError(_refusal(error, name)) from error
    return repo_id


def _repository_name(args: TrainingArguments) -> str:
    """`hub_model_id`, or the last part of the output directory, as in the Trainer."""
    name, origin = args.hub_model_id, "--hub_model_id"
    if name is None:
        name, origin = Path(args.output_dir).absolute().name, "the last part of --output_dir; give --hub_model_id"
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise GAUError(f"--push_to_hub: {name!r} ({origin}) cannot be the name of a repository. {error}") from error
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
    """`trainer.save_model()` without its push: a failing network must not cost the evaluation and the card to come."""
    with replaced(trainer.args, push_to_hub=False):
        trainer.save_model()


def push(trainer: Trainer) -> CommitInfo | None:
    """Saves the model and uploads it like [`push_folder`]; `trainer.push_to_hub()` would upload predictions as well.

    Returns:
        The commit; None in processes other than the first.
    """
    trainer.callback_handler.on_push_begin(trainer.args, trainer.state, trainer.control)
    with _note(_way_on(str(trainer.hub_model_id), trainer.args)):
        save_without_push(trainer)
        if not trainer.is_world_process_zero():
            return None
        trainer.create_model_card()
        if trainer.push_in_progress is not None:
            trainer.push_in_progress.wait_until_done()
        return push_folder(trainer.hub_model_id, trainer.args)


def push_folder(repo_id: str, args: TrainingArguments) -> CommitInfo:
    """Uploads `args.output_dir` of a finished run; errors say how to upload it without training again."""
    with _note(_way_on(repo_id, args)):
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
        f"The upload to {repo_id} did not finish, but the model is safe in {args.output_dir}. This command{token} "
        "uploads the rest without training again:\n"
        f"    {shlex.join(command)}"
    )


@contextmanager
def _note(text: str) -> Iterator[None]:
    """Adds a note to every exception that leaves the block, an interruption by the user included."""
    try:
        yield
    except BaseException as error:
        error.add_note(text)
        raise
