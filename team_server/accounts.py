"""Make the accounts, experiments, registered models and rights of a server what a YAML file says.

    python accounts.py --accounts accounts.yaml --passwords ~/passwords.yaml

MLFLOW_TRACKING_URI names the server, MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD the administrator. It may
run again and again: it does only what is missing. What the file does not name, it leaves alone, except accounts: those
are removed.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import mlflow
import requests
import yaml
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

if TYPE_CHECKING:
    from mlflow.server.auth.client import AuthServiceClient

SHORTEST = 12  # characters of a password that MLflow takes
RIGHTS = ("READ", "USE", "EDIT", "MANAGE")

Grant = tuple[str, str, str]  # a user, a type of resource, and the resource's id or name


@dataclass
class Accounts:
    """What the file says: users, and for each experiment and registered model the right of each user."""

    users: list[str]
    experiments: dict[str, dict[str, str]]
    registered_models: dict[str, dict[str, str]]


class OnceEach(yaml.BaseLoader):
    """YAML in which all is text, digits too, and a key stands once: else the last of two lines would silently count."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping; raises yaml.constructor.ConstructorError where a key stands twice."""
        keys = [key.value for key, _ in node.value]
        for place, (key, _) in enumerate(node.value):
            if key.value in keys[:place]:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, parameter: str, like: str) -> dict[str, Any]:
    """The mapping that a file holds, all of it as text.

    Raises:
        click.BadParameter: if it is no such file.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), OnceEach)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        told = f"{path}, line {mark.line + 1}: {error.problem}" if mark else f"{path} is no text file"  # type: ignore[union-attr]
        raise click.BadParameter(f"{told}.", param_hint=parameter) from None
    if not isinstance(content, dict):
        raise click.BadParameter(f"{path} needs {like}.", param_hint=parameter)
    return content


def read_accounts(path: Path) -> Accounts:
    """Read and check the file.

    Raises:
        click.BadParameter: if it is no such file, or names a user, a right or a model that cannot be.
    """
    like = "users, experiments and registered_models, as accounts.yaml"
    content = read_yaml(path, "--accounts", like)
    if wrong := mistake(content):
        raise click.BadParameter(f"{path} needs {like}." if wrong == "keys" else wrong, param_hint="--accounts")
    return Accounts(**content)


def mistake(content: dict[str, Any]) -> str:
    """What is wrong with the content of a file of accounts; empty where nothing is."""
    if set(content) != {"users", "experiments", "registered_models"}:
        return "keys"
    users = content["users"]
    if not isinstance(users, list):
        return f"users: {users!r} is no list such as [alice, bob]."
    for place, user in enumerate(users):
        if not isinstance(user, str) or not re.fullmatch(r"[^\s:]+", user):
            return f"users: {user!r} is no name without spaces and colons."
        if user in users[:place]:
            return f"users: {user!r} stands twice."
    for kind in ("experiments", "registered_models"):
        if not isinstance(content[kind], dict):
            return f"{kind}: {content[kind]!r} is no mapping such as {{churn: {{gate: MANAGE}}}}; for none, write {{}}."
        for name, rights in content[kind].items():
            if not name.strip() or (kind == "registered_models" and re.search("[/:]", name)):
                return f"{kind}: {name!r} is a name that MLflow does not allow."
            if not isinstance(rights, dict):
                return f"{name}: {rights!r} is no mapping such as {{gate: MANAGE}}; for none, write {{}}."
            for user, right in rights.items():
                if user not in users:
                    return f"{name}: {user!r} is none of users."
                if right not in RIGHTS:
                    return f"{name}: {right!r} is none of {', '.join(RIGHTS)}."
    return ""


def read_passwords(path: Path | None, users: list[str]) -> dict[str, str]:
    """The passwords of a file with a line `name: password` each, or of PASSWORD_<NAME> in the environment.

    Raises:
        click.BadParameter: if it is no such file, or a password is shorter than MLflow allows.
    """
    found = read_yaml(path, "--passwords", "lines such as alice: password") if path else {}
    for user in users:
        if value := os.environ.get(f"PASSWORD_{user.upper()}"):
            found[user] = value
    for user in users:
        if not isinstance(password := found.get(user, " " * SHORTEST), str) or len(password) < SHORTEST:
            raise click.BadParameter(
                f"{user}: the password has fewer than {SHORTEST} characters.", param_hint="--passwords"
            )
    return found


def existing() -> tuple[dict[str, bool], dict[Grant, str]]:
    """The users of the server, and whether each is an administrator; and all that has been granted to them."""
    credentials = (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"])
    address = f"{mlflow.get_tracking_uri().rstrip('/')}/api/2.0/mlflow/users/list"
    answer = requests.get(address, auth=credentials, timeout=60)
    if answer.status_code in (401, 403):
        raise click.UsageError(
            f"{credentials[0]!r} is no administrator of {mlflow.get_tracking_uri()}, or not so named."
        )
    answer.raise_for_status()
    users, grants = {}, {}
    for user in answer.json()["users"]:
        users[user["username"]] = user["is_admin"]
        for role in user["roles"]:
            for each in role["permissions"]:
                grants[user["username"], each["resource_type"], each["resource_pattern"]] = each["permission"]
    return users, grants


def wanted_grants(accounts: Accounts, experiment_ids: dict[str, str]) -> dict[Grant, str]:
    """The rights that the file gives."""
    found: dict[Grant, str] = {}
    for name, rights in accounts.experiments.items():
        found |= {(user, "experiment", experiment_ids[name]): right for user, right in rights.items()}
    for name, rights in accounts.registered_models.items():
        found |= {(user, "registered_model", name): right for user, right in rights.items()}
    return found


def apply_users(
    client: AuthServiceClient, accounts: Accounts, passwords: dict[str, str], users: dict[str, bool]
) -> None:
    """Make the accounts that are missing, and remove those that the file no longer names; administrators stay."""
    missing = [user for user in accounts.users if user not in users]
    if unknown := [user for user in missing if user not in passwords]:
        hint = ", ".join(f"PASSWORD_{user.upper()}" for user in unknown)
        raise click.UsageError(f"No password for {', '.join(unknown)}: give --passwords, or set {hint}.")
    for user in missing:
        client.create_user(user, passwords[user])
        click.echo(f"account {user}: made")
    for user, is_admin in users.items():
        if user not in accounts.users and not is_admin:
            client.delete_user(user)
            click.echo(f"account {user}: removed")


def apply_resources(accounts: Accounts) -> dict[str, str]:
    """Make the experiments and registered models that are missing; the ids of the experiments by name."""
    client, ids = MlflowClient(), {}
    for name in accounts.experiments:
        experiment = client.get_experiment_by_name(name)
        ids[name] = experiment.experiment_id if experiment else client.create_experiment(name)
        if experiment is None:
            click.echo(f"experiment {name}: made")
    for name in accounts.registered_models:
        try:
            client.create_registered_model(name)
            click.echo(f"registered model {name}: made")
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
    return ids


def apply_grants(client: AuthServiceClient, accounts: Accounts, ids: dict[str, str], grants: dict[Grant, str]) -> None:
    """Give each user the rights of the file, and take those on what the file names that it does not give."""
    names = {("experiment", key): f"experiment {name}" for name, key in ids.items()}
    names |= {("registered_model", name): f"registered model {name}" for name in accounts.registered_models}
    wanted = wanted_grants(accounts, ids)
    for (user, kind, key), right in wanted.items():
        if grants.get((user, kind, key)) != right:
            if (user, kind, key) in grants:
                client.revoke_user_permission(user, kind, key)
            client.grant_user_permission(user, kind, key, right)
            click.echo(f"{user}: {right} on {names[kind, key]}")
    for user, kind, key in grants:
        if user in accounts.users and (kind, key) in names and (user, kind, key) not in wanted:
            client.revoke_user_permission(user, kind, key)
            click.echo(f"{user}: no right on {names[kind, key]} any more")


def apply(accounts: Accounts, passwords: dict[str, str]) -> None:
    """Make the server what the file says."""
    users, _ = existing()
    from mlflow.server.auth.client import AuthServiceClient  # late: it loads the whole server

    client = AuthServiceClient(mlflow.get_tracking_uri())
    apply_users(client, accounts, passwords, users)
    ids = apply_resources(accounts)
    _, grants = existing()  # only now: who made an experiment meanwhile manages it
    apply_grants(client, accounts, ids, grants)


@click.command()
@click.option("--accounts", "path", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True)
@click.option("--passwords", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(path: Path, passwords: Path | None) -> None:
    """Make the server what the file says."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        if name not in os.environ:
            raise click.UsageError(f"Set {name}: of the server, and of its administrator.")
    accounts = read_accounts(path)
    known = read_passwords(passwords, accounts.users)
    try:
        apply(accounts, known)
    except (MlflowException, requests.RequestException) as error:
        told = " ".join(str(error).split())
        raise click.UsageError(f"{mlflow.get_tracking_uri()} did not do all of it: {told}") from None
    click.echo(f"{mlflow.get_tracking_uri()} is as {path} says.")


if __name__ == "__main__":
    main()
