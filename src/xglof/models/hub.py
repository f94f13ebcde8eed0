"""Files of the Hugging Face Hub: named by commit, downloaded once to the cache of huggingface_hub.

The token of a user who has one is huggingface_hub's affair: it is neither read nor shown here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xglof.errors import ModelError

#: Begins the address of a file on the Hub, and of one that was fetched and converted on this machine.
HUB, FETCHED = "hf://", "fetched:"

_COMMIT = re.compile(r"[0-9a-f]{40}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TOKEN = re.compile(r"hf_[A-Za-z0-9]+")


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a model repository at one commit.

    Attributes
    ----------
    repo
        ``OWNER/REPO``.
    file
        Its path in the repository.
    commit
        40 hexadecimal digits.
    """

    repo: str
    file: str
    commit: str

    def __post_init__(self) -> None:
        parts = self.file.split("/")
        named = [*self.repo.split("/"), *parts]
        if self.repo.count("/") != 1 or not all(_NAME.fullmatch(part) for part in named) or ".." in parts:
            raise ModelError(
                f"{self.repo}/{self.file} names no file on the Hub; give {HUB}OWNER/REPO/FILE@COMMIT"
            )
        if not _COMMIT.fullmatch(self.commit):
            raise ModelError(
                f"revision {self.commit!r} of {self.repo} is no commit; give its 40 hexadecimal digits: what "
                "a branch or tag names can change"
            )

    @classmethod
    def of(cls, uri: str) -> HubFile:
        """The file of ``hf://OWNER/REPO/FILE@COMMIT``.

        Raises
        ------
        ModelError
            If it is not of this form.
        """
        address, _, commit = uri.removeprefix(HUB).rpartition("@")
        owner, repo, file = (*address.split("/", 2), "", "")[:3]
        return cls(f"{owner}/{repo}", file, commit)

    @property
    def uri(self) -> str:
        """``hf://OWNER/REPO/FILE@COMMIT``."""
        return f"{HUB}{self.repo}/{self.file}@{self.commit}"

    @property
    def path(self) -> Path:
        """The file in the cache.

        Raises
        ------
        ModelError
            If it is not there: :meth:`download` puts it there.
        """
        with _hub_errors(self.repo, self.file):
            from huggingface_hub import try_to_load_from_cache

            found = try_to_load_from_cache(self.repo, self.file, revision=self.commit)
        if not isinstance(found, str):
            raise ModelError(f"{self.uri} has not been downloaded yet")
        return Path(found)

    def download(self) -> Path:
        """The file in the cache, downloaded where it is not there yet; a cached one needs no network.

        Raises
        ------
        ModelError
            If there is no such file, or the Hub can't be reached.
        """
        with _hub_errors(self.repo, f"{self.file} at {self.commit[:12]}"):
            from huggingface_hub import hf_hub_download

            return Path(hf_hub_download(self.repo, self.file, revision=self.commit))

    def recorded_sha256(self) -> str | None:
        """SHA-256 that the Hub has on record; it has one of large files only.

        Raises
        ------
        ModelError
            As :meth:`download`.
        """
        with _hub_errors(self.repo, f"{self.file} at {self.commit[:12]}"):
            found = _api().get_paths_info(self.repo, [self.file], revision=self.commit)
        digests = [entry.lfs.sha256 for entry in found if entry.path == self.file and entry.lfs is not None]
        return str(digests[0]) if digests else None


def resolve_commit(repo: str, revision: str = "main") -> str:
    """Commit that a branch, tag or commit of a model repository stands for now.

    Raises
    ------
    ModelError
        If there is none of that name, or the Hub can't be reached.
    """
    if _COMMIT.fullmatch(revision):
        return revision
    with _hub_errors(repo, f"revision {revision!r}"):
        return str(_api().model_info(repo, revision=revision).sha)


def _api() -> Any:
    from huggingface_hub import HfApi, constants

    return HfApi(endpoint=constants.ENDPOINT)


@contextmanager
def _hub_errors(repo: str, what: str) -> Iterator[None]:
    """Errors of the Hub and of the way there in our words, with no token in them."""
    try:
        from huggingface_hub import errors
    except ImportError as error:
        raise ModelError(
            "the Hub needs huggingface_hub; install it with `pip install huggingface_hub`"
        ) from error
    absent = (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError)
    offline = (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError)
    try:
        yield
    except offline as error:
        raise ModelError(
            f"{repo}: {what} is in no cache on this machine and the Hub can't be reached; go online once "
            "(unset HF_HUB_OFFLINE, check HTTPS_PROXY) or copy the cache from another machine"
        ) from _quiet(error)
    except absent as error:
        raise ModelError(
            f"the Hub has no {what} in {repo}, or hides it from you; where it is private or gated, log in "
            "with `hf auth login`"
        ) from _quiet(error)
    except Exception as error:  # whatever HTTP library it uses this year
        first = _TOKEN.sub("hf_***", str(error).strip().partition("\n")[0])
        raise ModelError(
            f"{repo}: {what} can't be had from the Hub ({type(error).__name__}: {first}); try again"
        ) from _quiet(error)


def _quiet(error: BaseException) -> BaseException | None:
    """The error as a cause, unless its text would show a token in a traceback."""
    return None if _TOKEN.search(repr(error)) else error


def data_folder() -> Path:
    """Where what was fetched is kept: ``$XDG_DATA_HOME/xglof``, by default ``~/.local/share/xglof``."""
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "xglof"


def fetched_folder(name: str) -> Path:
    """The model folder of a fetched model, whether it is there or not."""
    return data_folder() / "models" / name


def fetched_path(uri: str) -> Path:
    """The file of ``fetched:MODEL/FILE``.

    Raises
    ------
    ModelError
        If it is not of this form.
    """
    name, _, file = uri.removeprefix(FETCHED).partition("/")
    if not (_NAME.fullmatch(name) and _NAME.fullmatch(file)):
        raise ModelError(f"{uri!r} is not of the form {FETCHED}MODEL/FILE")
    return fetched_folder(name) / file
