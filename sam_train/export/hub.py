"""Exports on the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path

from sam_train.checkpoints.tensor_files import first_line
from sam_train.checkpoints.tones_file import tones_file
from sam_train.errors import InputError
from sam_train.export.card import CARD, card_file, is_card

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FILES = (
    *("config.json", "preprocessor_config.json", "video_preprocessor_config.json", "adapter_config.json"),
    *("model.safetensors", "adapter_model.safetensors"),
    *("encoder.onnx", "decoder.onnx", "encoder.pt2", "decoder.pt2"),
    *("onnx/vision_encoder*.onnx", "onnx/prompt_encoder_mask_decoder*.onnx"),
)
"""What the formats write; nothing else of a folder goes up."""


def require_repository(name: str) -> None:
    """Refuse what cannot be the name of a repository.

    Raises:
        InputError: If it is none.
    """
    if not _REPOSITORY.fullmatch(name):
        raise InputError(f"push={name}: expected USER/NAME, of letters, digits, '-', '_' and '.'")


def require_token(repository: str) -> None:
    """Refuse to begin without a token, which nothing can be uploaded without.

    Raises:
        InputError: If there is none on this machine.
    """
    from huggingface_hub import get_token

    if get_token() is None:
        raise InputError(f"push={repository}: there is no token on this machine; {_TOKEN}")


def push(path: Path, repository: str) -> str:
    """Upload an export and its card in one commit; return the address. A repository that is new is private.

    Args:
        path: The folder, or the file with its card beside it.
        repository: USER/NAME.

    Raises:
        InputError: If there is no token, it has no right to write there, or the hub cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    operations = [CommitOperationAdd(name, str(file)) for name, file in _uploaded(path).items()]
    api = HfApi(library_name="sam_train")
    try:
        api.create_repo(repository, private=True, exist_ok=True)
        message = "Upload a model fine-tuned with sam_train"
        return str(api.create_commit(repository, operations, commit_message=message).commit_url)
    except LocalTokenNotFoundError as error:
        raise _refused(repository, "there is no token", _TOKEN) from error
    except HfHubHTTPError as error:
        found, remedy = first_line(error), "try again later"
        if error.response.status_code == 401:
            found, remedy = "the hub does not know the token, or there is none (401)", _TOKEN
        elif error.response.status_code == 403:
            remedy = f"give a token that may write to {repository.partition('/')[0]}, or name another USER"
            found = "the token has no right to write there (403)"
        raise _refused(repository, found, remedy) from error
    except Exception as error:  # the client's own, its transport's and the system's: all mean that nothing was uploaded
        remedy = "check the network, and the variables HF_ENDPOINT and HF_HUB_OFFLINE"
        raise _refused(repository, f"the hub cannot be reached ({first_line(error)})", remedy) from error


def _uploaded(path: Path) -> dict[str, Path]:
    """Return the files of an export by their names on the hub."""
    files = [file for pattern in _FILES for file in sorted(path.glob(pattern))] if path.is_dir() else [path]
    names = {file.relative_to(path).as_posix() if path.is_dir() else file.name: file for file in files}
    if (rule := tones_file(path)).is_file():  # how images were shown
        names[rule.name] = rule
    if is_card(card := card_file(path)):  # and not a README of one's own
        names[CARD] = card
    return names


_TOKEN = "run `hf auth login` once, or set HF_TOKEN to one that may write"


def _refused(repository: str, found: str, remedy: str) -> InputError:
    return InputError(f"push={repository}: {found.rstrip('.')}; what was exported stays. To upload it, {remedy}")
