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
    """A project in Git at a commit, and what lies in it."""

    repo: str
    commit: str  # its full hash
    folder: str  # "" at the top
    entry_points: dict[str, dict[str, Any]]  # the command and the parameters of each, as MLproject has them
    environment: str  # which key of MLproject says what it needs (conda_env, python_env, docker_env), or ""
    scripts: tuple[str, ...]  # the files that can be run as entry points
    source: str  # the text of its programs
    pointers: tuple[str, ...]  # files that Git LFS holds and that are not here, because git-lfs is not

    @property
    def uri(self) -> str:
        """The project as `mlflow run` takes it."""
        return f"{self.repo}#{self.folder}" if self.folder else self.repo

    def declared(self, entry_point: str) -> dict[str, dict[str, Any]]:
        """The `type` and `default` of each parameter that an entry point declares; a script declares none."""
        declared = self.entry_points.get(entry_point, {}).get("parameters") or {}
        return {name: {"type": said} if isinstance(said, str) else said or {} for name, said in declared.items()}

    def starts(self, entry_point: str) -> set[str]:
        """The words of the command of an entry point: the programs that it starts are among them."""
        return set((self.entry_points.get(entry_point, {}).get("command") or entry_point).split())

    def has_option(self, name: str) -> bool:
        """Whether the project's programs have an option of a name that MLproject does not declare."""
        return bool(re.search(rf"--{re.sub('[-_]', '[-_]', re.escape(name))}\b", self.source))

    def check(self, entry_point: str, parameters: dict[str, str]) -> None:
        """Refuse to run what the project does not have at its commit.

        Raises click.BadParameter for an unknown entry point, and for a parameter that lacks a value.
        """
        if entry_point not in (*self.entry_points, *self.scripts):
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
    address = without_credentials(repo)
    if repo.startswith("file:") or Path(repo).exists():
        wrong = (
            "is a folder of this machine, which MLflow would run in place, checking the commit out under your "
            "hands: give an https, ssh or git@ address."
        )
    elif "#" in repo:
        wrong = "holds a #: name the folder with -P project=FOLDER."
    elif re.match(r"\w[\w+.-]*://[^/@:]*:[^/@]*@", repo):
        wrong = "came with a password, which MLflow would record: leave it out, and let Git ask a credential helper."
    elif re.match(r"(/[^/]+){2,}/(tree|blob)/[^/]", urlsplit(repo).path) and not repo.endswith(".git"):
        wrong = "is a page of a web site: give the address that `git clone` takes, and the rest as project and version."
    else:
        return address
    raise bad("repo", address, wrong)


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
    found = [
        refs.get(f"{name}^{{}}", refs.get(name)) for name in (version, f"refs/heads/{version}", f"refs/tags/{version}")
    ]
    named = {commit for commit in found if commit}
    if len(named) > 1:
        raise bad("version", version, f"is both a branch and a tag: say refs/heads/{version} or the commit.")
    if not named and re.fullmatch(r"[0-9a-fA-F]{4,39}", version):
        named = {commit for commit in _history(repo) if commit.startswith(version.lower())}
        if len(named) > 1:
            raise bad("version", version, f"is the start of {len(named)} commits: give more digits.")
    if named:
        return named.pop()
    names = {name.split("/", 2)[2] for name in refs if re.match(r"refs/(heads|tags)/.*(?<!\^\{\})$", name)}
    known = ", ".join(sorted(names)[:20])
    raise bad("version", version, f"is neither a branch, a tag nor a commit of {repo}, which has: {known}.")


def _history(repo: str) -> list[str]:
    """The hashes of all commits that lead to a branch or tag. Fetches the commits without their files."""
    with tempfile.TemporaryDirectory() as folder:
        done = _git("clone", "--quiet", "--bare", "--filter=tree:0", "--", repo, folder)
        if done.returncode:
            raise _unreadable(repo, done.stderr)
        return _git("-C", folder, "rev-list", "--all").stdout.split()


def checkout(repo: str, commit: str, folder: str) -> None:
    """Fetch the files of a commit, without its history, into an empty folder.

    A submodule that cannot be fetched is left empty: where it is needed, `mlflow run` says so.

    Raises click.UsageError where the repository cannot be read or does not have the commit.
    """
    _git("init", "--quiet", folder)
    _git("-C", folder, "remote", "add", "origin", "--", repo)  # by it Git finds submodules such as ../other.git
    done = _git("-C", folder, "fetch", "--quiet", "--depth=1", "origin", commit)
    if not done.returncode:
        done = _git("-C", folder, "checkout", "--quiet", "FETCH_HEAD")
    if done.returncode:
        raise _unreadable(repo, done.stderr, commit)
    _git("-C", folder, "submodule", "--quiet", "update", "--init", "--recursive", "--depth=1")


def load(repo: str, commit: str, folder: str) -> Project:
    """Read the MLproject file of a project at a commit.

    Raises click.UsageError where the commit, the folder or an MLproject file that can be read is lacking.
    """
    if "." in folder:
        raise bad("project", folder, "holds a dot, which MLflow does not allow in the folder of a project.")
    with tempfile.TemporaryDirectory() as clone:
        checkout(repo, commit, clone)
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
        small = [path for path in files if path.stat().st_size < 1_000_000]  # a larger file is no program
        pointers = [] if shutil.which("git-lfs") else [path for path in small if path.read_bytes().startswith(LFS)]
        scripts = [path for path in files if path.suffix in SCRIPTS]
        names = [tuple(path.relative_to(root).as_posix() for path in paths) for paths in (scripts, pointers)]
        source = [path.read_text("utf-8", errors="replace") for path in small if path.suffix in SOURCES]
        return Project(repo, commit, folder, entry_points, environment, names[0], "\n".join(source), names[1])


def _mlproject(folder: Path) -> tuple[dict[str, dict[str, Any]], str]:
    """The entry points that an MLproject file declares, and which environment it names."""
    file = next((path for path in folder.iterdir() if path.name.lower() == "mlproject"), None)
    said = yaml.safe_load(file.read_text(encoding="utf-8")) or {} if file else {}
    files = {"python_env": "python_env.yaml", "conda_env": "conda.yaml"}  # MLflow takes them without being told
    named = [key for key in ("docker_env", *files) if key in said]
    named += [key for key, name in files.items() if (folder / name).exists()]
    points = {str(name): dict(point.items()) for name, point in (said.get("entry_points") or {}).items()}
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


def _unreadable(repo: str, stderr: str, commit: str = "") -> click.UsageError:
    """What keeps git from reading a repository, or a commit of it, in one line."""
    lines = [re.sub(r"://[^/@\s]*@", "://", line) for line in stderr.splitlines() if line.strip()]
    said = next((line for line in lines if not line.startswith(("warning:", "Cloning"))), "git failed")
    said = said.removeprefix("fatal: ")
    reasons = {
        "not our ref": f"does not have the commit {commit}, or no longer",
        # An old server: `mlflow run` cannot fetch it either.
        "unadvertised object": f"hands out branches and tags, and not the commit {commit}",
        "dumb http": "is served as plain files, from which neither this example nor `mlflow run` can fetch one commit: "
        "give the address of a Git server (https of a hosting service or `git http-backend`, or ssh)",
        "could not read (User|Pass)": "asks for a user and password, and Git has none: set up a credential helper",
        "Authentication failed": "refuses the user and password that Git's credential helper gave",
    }
    known = (reason for sign, reason in reasons.items() if re.search(sign, stderr))
    return click.UsageError(f"The repository {repo} {next(known, f'cannot be read: {said}')}.")
