"""How an entry point ends: the exit code, and the one line that a user reads."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Iterator
from types import SimpleNamespace

import click
import pytest
from mlflow.exceptions import MlflowException
from running import Store

from support.entry_point import FiniteRange, run_command, say_where_to_look


@pytest.fixture(autouse=True)
def own_signals(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give the test runner its signals back, and no tracking store of the machine's, nor one that is made here."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setattr("sys.argv", ["train.py"])
    monkeypatch.setattr("mlflow.last_active_run", lambda: None)  # another test of this process may have had one
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


def ended(act: object, capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    """The exit code of a command that does this, and what it says on stderr."""

    @click.command()
    def command() -> None:
        if isinstance(act, BaseException):
            raise act

    with pytest.raises(SystemExit) as end:
        run_command(command)
    return end.value.code, capsys.readouterr().err


def test_success_is_0_and_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(None, capsys) == (0, "")


def test_a_mistake_is_2_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    mistake = click.UsageError("k_max=1 is less\nthan k_min=2.")
    assert ended(mistake, capsys) == (2, "Error: k_max=1 is less than k_min=2.\n")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (click.IntRange(min=1), "is not an integer."),
        (FiniteRange(min=0), "is not a number."),
        (click.FloatRange(0, 1), "is not a number."),
        (click.BOOL, "is not true or false."),
    ],
)
def test_a_value_of_another_type_is_refused_in_plain_words(
    kind: click.ParamType, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["train.py", "--given=many"])
    with pytest.raises(SystemExit):
        run_command(click.Command("train", params=[click.Option(["--given"], type=kind)]))
    assert capsys.readouterr().err == f"Error: Invalid value for '--given': 'many' {said}\n"


def test_an_interrupt_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = ended(KeyboardInterrupt(), capsys)
    assert (code, said.splitlines()[-1]) == (130, "Interrupted.")


def test_a_verdict_may_have_a_code_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(click.exceptions.Exit(3), capsys) == (3, "")


def test_a_relative_store_is_refused_under_mlflow_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    earlier = SimpleNamespace(info=SimpleNamespace(run_id="1" * 32))
    monkeypatch.setattr("mlflow.last_active_run", lambda: earlier)  # a run of this process in another store
    written: list[object] = []
    monkeypatch.setattr("mlflow.MlflowClient.set_tag", lambda *arguments: written.append(arguments))
    code, said = ended(None, capsys)
    assert code == 2
    assert "sqlite:////full/path/mlflow.db" in said
    assert not written  # it would have gone into the wrong store


def test_a_note_that_the_store_refuses_does_not_hide_the_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*arguments: object) -> None:
        raise MlflowException("Run not found")

    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    monkeypatch.setattr("mlflow.MlflowClient.get_run", away)
    monkeypatch.setattr("mlflow.MlflowClient.set_tag", away)
    assert ended(click.UsageError("k_max=1 is too few."), capsys) == (2, "Error: k_max=1 is too few.\n")


@pytest.mark.parametrize(("given", "shown"), [("shivering-bird-943", "score"), ("mine", "mine")])
@pytest.mark.parametrize("act", [None, click.UsageError("data=x is no file.")])
def test_a_run_that_nobody_named_is_called_by_its_entry_point(
    given: str, shown: str, act: object, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tags = {"mlflow.project.entryPoint": "score"}
    run = SimpleNamespace(info=SimpleNamespace(run_name=given), data=SimpleNamespace(tags=tags))
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    monkeypatch.setattr("mlflow.MlflowClient.get_run", lambda *_: run)
    monkeypatch.setattr("mlflow.MlflowClient.set_tag", lambda *_: None)
    monkeypatch.setattr("mlflow.MlflowClient.update_run", lambda *_, name: setattr(run.info, "run_name", name))
    ended(act, capsys)
    assert run.info.run_name == shown


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "abc"])
def test_a_range_refuses_what_is_no_finite_number(value: str) -> None:
    with pytest.raises(click.BadParameter):
        FiniteRange(min=0).convert(value, None, None)


def test_the_command_that_opens_the_ui_can_be_typed_as_it_is_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = SimpleNamespace(info=SimpleNamespace(run_id="1" * 32, experiment_id="0"))
    monkeypatch.setattr("mlflow.active_run", lambda: run)
    monkeypatch.setattr("mlflow.get_tracking_uri", lambda: "sqlite:////home/a b/mlflow.db")
    say_where_to_look()
    command = capsys.readouterr().out.splitlines()[0].removeprefix("See the run: ")
    assert shlex.split(command)[-2:] == ["--backend-store-uri", "sqlite:////home/a b/mlflow.db"]


def test_a_server_that_no_longer_lets_the_user_in_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise MlflowException("API request to endpoint /api/2.0/mlflow/runs/get failed with error code 401 != 200.")

    monkeypatch.setattr("mlflow.last_active_run", refuse)
    assert ended(click.UsageError("The account is gone."), capsys) == (2, "Error: The account is gone.\n")


def test_a_project_started_inside_may_choose_its_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`mlflow run` refuses an id beside a name, and it has given this process the id."""
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "churn")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "0")
    with pytest.raises(SystemExit):
        run_command(click.Command("main"))
    assert "MLFLOW_EXPERIMENT_NAME" not in os.environ
