"""A remote Git repository: its address, the commit that a version stands for, and its files at a commit."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import click

from support.table import bad

FOLDER = Path(__file__).resolve().parent


def default_repository() -> str:
    """The repository that this project was run from: the remote of the clone or checkout that holds this file.

    Raises click.UsageError where there is none.
    """
    # Not `git remote get-url`, which answers with what insteadOf makes of the address.
    done = _git("-C", str(FOLDER), "config", "--get-regexp", r"^remote\..*\.url$")
    remotes = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    if not remotes:
        raise click.UsageError("This project does not lie in a clone with a remote: say which one with -P repo=URL.")
    return without_credentials(remotes.get("remote.origin.url", next(iter(remotes.values()))))


def without_credentials(repo: str) -> str:
    """The address without a password, and without a user where none is needed: https://host/repo.git."""
    without_password = re.sub(r"^(\w[\w+.-]*://[^/@:]*):[^/@]*@", r"\1@", repo)
    return re.sub(r"^(https?://)[^/@]*@", r"\1", without_password)


def check_repository(repo: str) -> str:
    """The address of a repository as it can be recorded.

    Raises click.BadParameter for a folder, for a page of a web site and for an address that holds a password.
    """
    if repo.startswith("file:") or Path(repo).exists():
        raise bad(
            "repo",
            repo,
            "is a folder of this machine, which MLflow would run in place, checking the commit out under your "
            "hands: give an https, ssh or git@ address.",
        )
    if "#" in repo:
        raise bad("repo", without_credentials(repo), "holds a #: name the folder with -P project=FOLDER.")
    if re.match(r"\w[\w+.-]*://[^/@:]*:[^/@]*@", repo):
        raise bad(
            "repo",
            without_credentials(repo),
            "came with a password, which MLflow would record: leave it out, and let Git ask a credential helper.",
        )
    if re.match(r"(/[^/]+){2,}/(tree|blob)/[^/]", urlsplit(repo).path) and not repo.endswith(".git"):
        raise bad(
            "repo",
            repo,
            "is a page of a web site: give the address that `git clone` takes, and the rest as project and version.",
        )
    return without_credentials(repo)


def resolve(repo: str, version: str) -> str:
    """The full commit hash that a version stands for.

    version: a branch, a tag, a commit hash of at least four digits, or empty for the default branch.

    Raises click.UsageError where the repository cannot be read or the version is none or several commits.
    A full hash is taken as it is: `checkout` finds out whether the repository has it.
    """
    if re.fullmatch(r"[0-9a-fA-F]{40}", version):
        return version.lower()
    listed = _git("ls-remote", "--", repo)
    if listed.returncode:
        raise _unreadable(repo, listed.stderr)
    refs = {name: commit for commit, name in (line.split("\t") for line in listed.stdout.splitlines())}
    if not version:
        if "HEAD" not in refs:
            raise click.UsageError(f"The repository {repo} has no commit on its default branch.")
        return refs["HEAD"]
    # An annotated tag is an object of its own; the commit is the one with ^{}.
    tag = refs.get(f"refs/tags/{version}^{{}}", refs.get(f"refs/tags/{version}"))
    named = {commit for commit in (refs.get(version), refs.get(f"refs/heads/{version}"), tag) if commit}
    if len(named) > 1:
        raise bad("version", version, f"is both a branch and a tag: say refs/heads/{version} or the commit.")
    if named:
        return refs.get(f"{version}^{{}}", named.pop())
    if re.fullmatch(r"[0-9a-fA-F]{4,39}", version):
        named = {commit for commit in history(repo) if commit.startswith(version.lower())}
        if len(named) > 1:
            raise bad("version", version, f"is the start of {len(named)} commits: give more digits.")
        if named:
            return named.pop()
    names = [name.split("/", 2)[2] for name in refs if name.startswith(("refs/heads/", "refs/tags/"))]
    known = ", ".join(sorted({name for name in names if not name.endswith("^{}")})[:20])
    raise bad("version", version, f"is neither a branch, a tag nor a commit of {repo}, which has: {known}.")


def is_kept(repo: str, commit: str) -> bool | None:
    """Whether a branch or tag leads to a commit; None where a minute does not tell."""
    if commit in _git("ls-remote", "--", repo).stdout:  # one of them is that commit
        return True
    try:
        return commit in history(repo, seconds=60)
    except subprocess.TimeoutExpired:
        return None


def history(repo: str, seconds: float | None = None) -> set[str]:
    """The hashes of all commits that lead to a branch or tag. Fetches the commits without their files.

    Raises click.UsageError where the repository cannot be read, subprocess.TimeoutExpired after `seconds`.
    """
    with tempfile.TemporaryDirectory() as folder:
        done = _git("clone", "--quiet", "--bare", "--filter=tree:0", "--", repo, folder, seconds=seconds)
        if done.returncode:
            raise _unreadable(repo, done.stderr)
        return set(_git("-C", folder, "rev-list", "--all").stdout.split())


def checkout(repo: str, commit: str, folder: Path) -> None:
    """Fetch the files of a commit, without its history, into an empty folder.

    A submodule that cannot be fetched is left empty: where it is needed, `mlflow run` says so.

    Raises click.UsageError where the repository cannot be read or does not have the commit.
    """
    _git("init", "--quiet", str(folder))
    _git("-C", str(folder), "remote", "add", "origin", "--", repo)  # by it Git finds submodules such as ../other.git
    done = _git("-C", str(folder), "fetch", "--quiet", "--depth=1", "origin", commit)
    if "not our ref" in done.stderr or "unadvertised object" in done.stderr:
        raise click.UsageError(f"The repository {repo} does not have the commit {commit}, or no longer.")
    if not done.returncode:
        done = _git("-C", str(folder), "checkout", "--quiet", "FETCH_HEAD")
    if done.returncode:
        raise _unreadable(repo, done.stderr)
    _git("-C", str(folder), "submodule", "--quiet", "update", "--init", "--recursive", "--depth=1")


def forget_surroundings() -> None:
    """Take out of the environment what would have Git work in a repository of the user: GIT_DIR and the like.

    They are set in a command that a Git hook starts. What configures Git, such as a credential helper, stays.
    """
    names = _git("rev-parse", "--local-env-vars").stdout.split()
    for name in names:
        if not name.startswith("GIT_CONFIG"):
            os.environ.pop(name, None)


def _git(*arguments: str, seconds: float | None = None) -> subprocess.CompletedProcess[str]:
    """Run git so that it fails where it would ask a person: `mlflow run` may have nobody to answer."""
    try:
        return subprocess.run(
            ["git", *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"},
            start_new_session=True,  # without a terminal, ssh asks nothing either
            timeout=seconds,
        )
    except FileNotFoundError:
        raise click.UsageError("git is not on the PATH: install it first.") from None


def _unreadable(repo: str, stderr: str) -> click.UsageError:
    """What keeps git from reading a repository, in one line."""
    lines = [re.sub(r"://[^/@\s]*@", "://", line) for line in stderr.splitlines() if line.strip()]
    said = next((line for line in lines if not line.startswith(("warning:", "Cloning"))), "git failed")
    if "could not read Username" in said or "could not read Password" in said:
        reason = "asks for a user and password, and Git has none: set up a credential helper"
    elif "Authentication failed" in said:
        reason = "refuses the user and password that Git's credential helper gave"
    else:
        reason = f"cannot be read: {said.removeprefix('fatal: ')}"
    return click.UsageError(f"The repository {repo} {reason}.")
