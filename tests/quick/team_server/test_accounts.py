"""A file of accounts that says what cannot be is refused before anything is changed."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
import yaml
from examples import COLLECTION, module

accounts = module("team_server", "accounts")
FILE = COLLECTION / "team_server" / "accounts.yaml"


def test_the_file_gives_rights_to_its_users_only_and_the_gate_alone_may_change_a_registered_model() -> None:
    read = accounts.read_accounts(FILE)
    assert read.users == ["alice", "bob", "gate"]
    assert read.registered_models == {"churn": {"gate": "MANAGE"}}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"experiments": {"team": {"carol": "READ"}}}, "team: 'carol' is none of users."),
        ({"registered_models": {"churn": {"gate": "OWN"}}}, "churn: 'OWN' is none of READ, USE, EDIT, MANAGE."),
        ({"groups": []}, "needs users, experiments and registered_models, as "),
        (
            {"experiments": ["team"]},
            "needs users, experiments and registered_models, as ",
        ),
    ],
)
def test_a_mistake_is_named(changed: dict[str, object], said: str, tmp_path: Path) -> None:
    path = tmp_path / "accounts.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(FILE.read_text()) | changed))
    with pytest.raises(click.BadParameter) as error:
        accounts.read_accounts(path)
    assert said in error.value.message
    assert "\n" not in error.value.message


def test_a_password_in_the_environment_comes_before_that_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "passwords.yaml"
    path.write_text("alice: 'of the file'\nbob: 12345678\n")
    monkeypatch.setenv("PASSWORD_ALICE", "of the environment")
    assert accounts.read_passwords(path, ["alice", "bob"]) == {"alice": "of the environment", "bob": "12345678"}
    assert accounts.read_passwords(None, ["alice", "bob"]) == {"alice": "of the environment"}


def test_services_and_volumes_of_compose_yaml_are_there_and_its_head_names_each_variable() -> None:
    text = (FILE.parent / "compose.yaml").read_text(encoding="utf-8")
    compose = yaml.safe_load(text)
    for service in compose["services"].values():
        assert set(service.get("depends_on", {})) <= set(compose["services"])
        named = {volume.split(":")[0] for volume in service.get("volumes", [])}
        assert {name for name in named if not name.startswith(".")} <= set(compose["volumes"])
    head = text.split("services:")[0]
    assert set(re.findall(r"\$\{(\w+):", text)) == set(re.findall("[A-Z3]+(?:_[A-Z]+)+|DOMAIN", head))
