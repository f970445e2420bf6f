"""A remote Git repository: its address, the commit that a version stands for, and a project in it at that commit."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import yaml

from support.table import bad

FOLDER = Path(__file__).resolve().parent
SCRIPTS = (".py", ".sh", ".R")  # files that `mlflow run -e` runs without an entry point in MLproject
SOURCES = (*SCRIPTS, ".ipynb", ".yaml", ".yml", ".toml", ".cfg", "")
LFS = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True)
class Project:
    """A project in Git: its repository, a full commit hash, its folder there ("" at the top), and what lies in it.

    entry_points: those of MLproject; for each its command and the parameters that it declares, as MLproject has them.
    environment: which key of MLproject says what it needs (conda_env, python_env, docker_env), or "".
    scripts: the files that can be run as entry points.
    source: the text of its programs.
    pointers: files that Git LFS holds and that are not here, because git-lfs is not.
    """

    repo: str
    commit: str
    folder: str = ""
    entry_points: dict[str, dict[str, Any]] | None = None
    environment: str = ""
    scripts: tuple[str, ...] = ()
    source: str = ""
    pointers: tuple[str, ...] = ()

    @property
    def uri(self) -> str:
        """The project as `mlflow run` takes it."""
        return f"{self.repo}#{self.folder}" if self.folder else self.repo

    def declared(self, entry_point: str) -> dict[str, dict[str, Any]]:
        """The `type` and `default` of each parameter that an entry point declares; a script declares none."""
        declared = (self.entry_points or {}).get(entry_point, {}).get("parameters", {})
        return {name: {"type": said} if isinstance(said, str) else said or {} for name, said in declared.items()}

    def starts(self, entry_point: str) -> set[str]:
        """The words of the command of an entry point: the programs that it starts are among them."""
        return set((self.entry_points or {}).get(entry_point, {}).get("command", entry_point).split())

    def has_option(self, name: str) -> bool:
        """Whether the project's programs have an option of a name that MLproject does not declare."""
        return bool(re.search(rf"--{re.sub('[-_]', '[-_]', re.escape(name))}\b", self.source))

    def check(self, entry_point: str, parameters: dict[str, str]) -> None:
        """Refuse to run what the project does not have at its commit.

        Raises click.BadParameter for an unknown entry point, and for a parameter that lacks a value.
        """
        if entry_point not in (self.entry_points or {}) and entry_point not in self.scripts:
            have = ", ".join(self.entry_points or self.scripts) or "none"
            at = f"of {self.uri} at {self.commit[:12]}"
            raise bad("runs", entry_point, f"is no entry point {at}; it has: {have}.")
        for name, parameter in self.declared(entry_point).items():
            if parameter.get("default") is None and name not in parameters:
                raise bad("runs", entry_point, f"needs a value for its parameter {name}: {{{name}: ...}}.")


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


def history(repo: str) -> set[str]:
    """The hashes of all commits that lead to a branch or tag. Fetches the commits without their files.

    Raises click.UsageError where the repository cannot be read.
    """
    with tempfile.TemporaryDirectory() as folder:
        done = _git("clone", "--quiet", "--bare", "--filter=tree:0", "--", repo, folder)
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
    if "not our ref" in done.stderr:
        raise click.UsageError(f"The repository {repo} does not have the commit {commit}, or no longer.")
    if "unadvertised object" in done.stderr:  # an old server: `mlflow run` cannot fetch it either
        raise click.UsageError(f"The repository {repo} hands out branches and tags, and not the commit {commit}.")
    if not done.returncode:
        done = _git("-C", str(folder), "checkout", "--quiet", "FETCH_HEAD")
    if done.returncode:
        raise _unreadable(repo, done.stderr)
    _git("-C", str(folder), "submodule", "--quiet", "update", "--init", "--recursive", "--depth=1")


def load(repo: str, commit: str, folder: str) -> Project:
    """Read the MLproject file of a project at a commit.

    Raises click.UsageError where the commit, the folder or an MLproject file that can be read is lacking.
    """
    if "." in folder:
        raise bad("project", folder, "holds a dot, which MLflow does not allow in the folder of a project.")
    with tempfile.TemporaryDirectory() as clone:
        checkout(repo, commit, Path(clone))
        root = Path(clone) / folder
        if not root.is_dir():
            have = ", ".join(sorted(path.parent.name for path in Path(clone).glob("*/MLproject")))
            raise bad("project", folder, f"is no folder of {repo} at {commit[:12]}; there are projects in: {have}.")
        try:
            entry_points, environment = _mlproject(root)
        except (yaml.YAMLError, AttributeError, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split()).replace(clone, "")
            raise bad("project", folder, f"has an MLproject file that MLflow cannot read: {reason}") from None
        files = [path for path in sorted(root.rglob("*")) if path.is_file() and ".git" not in path.parts]
        small = [path for path in files if path.stat().st_size < 1_000_000]
        pointers = [] if shutil.which("git-lfs") else [path for path in small if path.read_bytes().startswith(LFS)]
        source = [path for path in small if path.suffix in SOURCES]
        return Project(
            repo,
            commit,
            folder,
            entry_points,
            environment,
            tuple(path.relative_to(root).as_posix() for path in files if path.suffix in SCRIPTS),
            "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in source),
            tuple(path.relative_to(root).as_posix() for path in pointers),
        )


def _mlproject(folder: Path) -> tuple[dict[str, dict[str, Any]], str]:
    """The entry points that an MLproject file declares, and which environment it names."""
    file = next((path for path in folder.iterdir() if path.name.lower() == "mlproject"), None)
    said = yaml.safe_load(file.read_text(encoding="utf-8")) or {} if file else {}
    entry_points = (said.get("entry_points") or {}).items()
    files = {"python_env": "python_env.yaml", "conda_env": "conda.yaml"}  # MLflow takes them without being told
    named = [key for key in ("docker_env", *files) if key in said]
    named += [key for key, name in files.items() if (folder / name).exists()]
    kept = {"command": "", "parameters": {}}
    points = {str(name): {key: point.get(key) or none for key, none in kept.items()} for name, point in entry_points}
    return points, next(iter(named), "")


def forget_surroundings() -> None:
    """Take out of the environment what would have Git work in a repository of the user: GIT_DIR and the like.

    They are set in a command that a Git hook starts. What configures Git, such as a credential helper, stays.
    """
    names = _git("rev-parse", "--local-env-vars").stdout.split()
    for name in names:
        if not name.startswith("GIT_CONFIG"):
            os.environ.pop(name, None)


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run git so that it fails where it would ask a person: `mlflow run` may have nobody to answer."""
    try:
        return subprocess.run(
            ["git", *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"},
            start_new_session=True,  # without a terminal, ssh asks nothing either
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
