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
        ({"experiments": ["team"]}, "experiments: ['team'] is no mapping such as "),
        ({"experiments": {"team": None}}, "team: 'null' is no mapping such as {gate: MANAGE}"),
        ({"experiments": {"team": {"alice": ["EDIT"]}}}, "team: ['EDIT'] is none of READ, USE, EDIT, MANAGE."),
        ({"registered_models": {"a/b": {"gate": "MANAGE"}}}, "'a/b' is a name that MLflow does not allow."),
        ({"users": "alice"}, "users: 'alice' is no list such as [alice, bob]."),
        ({"users": ["alice", "bob", "gate", "alice"]}, "users: 'alice' stands twice."),
        ({"users": ["alice", "bob", "gate", ""]}, "users: '' is no name without spaces and colons."),
    ],
)
def test_a_mistake_is_named(changed: dict[str, object], said: str, tmp_path: Path) -> None:
    path = tmp_path / "accounts.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(FILE.read_text()) | changed))
    with pytest.raises(click.BadParameter) as error:
        accounts.read_accounts(path)
    assert said in error.value.message
    assert "\n" not in error.value.message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "needs users, experiments and registered_models, as accounts.yaml."),
        ("users: [alice]\nexperiments:\n\tteam: {alice: EDIT}\n", "line 3: found character '\\t' that cannot start"),
        ("users: []\nexperiments: {e: {}, e: {}}\nregistered_models: {}\n", "line 2: 'e' stands twice."),
        ("users: caf\xe9", "is no text file."),
    ],
)
def test_a_file_that_is_not_read_as_it_looks_is_refused(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "accounts.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(click.BadParameter) as error:
        accounts.read_accounts(path)
    assert said in error.value.message
    assert "\n" not in error.value.message


def test_digits_and_words_of_yaml_are_names_and_passwords_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "accounts.yaml"
    path.write_text("users: [007, no]\nexperiments: {2026: {no: EDIT}}\nregistered_models: {}\n")
    read = accounts.read_accounts(path)
    assert (read.users, read.experiments) == (["007", "no"], {"2026": {"no": "EDIT"}})
    path.write_text("007: 012345670123\n")
    assert accounts.read_passwords(path, ["007"]) == {"007": "012345670123"}


@pytest.mark.parametrize("password", ["", "~", "short", "[a, b]"])
def test_a_password_that_is_empty_or_short_makes_no_account(password: str, tmp_path: Path) -> None:
    path = tmp_path / "passwords.yaml"
    path.write_text(f"alice: {password}\n")
    with pytest.raises(click.BadParameter, match="alice: the password has fewer than 12 characters"):
        accounts.read_passwords(path, ["alice"])


def test_a_password_in_the_environment_comes_before_that_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "passwords.yaml"
    path.write_text("alice: 'that of the file'\nbob: 123456789012\n")
    monkeypatch.setenv("PASSWORD_ALICE", "of the environment")
    assert accounts.read_passwords(path, ["alice", "bob"]) == {"alice": "of the environment", "bob": "123456789012"}
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
