"""What `reproduce` calls the same: two recorded runs, built from plain data."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from examples import module
from PIL import Image

comparison = module("git_project", "comparison")
recorded = module("git_project", "recorded")
Recorded, RecordedModel, Answers = recorded.Recorded, recorded.RecordedModel, recorded.Answers
sameness, content = module("git_project", "sameness"), module("git_project", "content")
ONE, OTHER = "a" * 32, "b" * 32
NAN = float("nan")


def rules(**options: Any) -> Any:
    """The first run was at work at 1,700,000,000 s since 1970, the second at 1,800,000,000, a minute each."""
    own = sameness.Own(1.7e9, 1.7e9 + 60), sameness.Own(1.8e9, 1.8e9 + 60)
    return sameness.Sameness(*own, **options)


def compared(one: dict[str, Any], other: dict[str, Any], answers: Any = None, **options: Any) -> dict[Any, Any]:
    """Whether each thing is the same, by its kind and name; several of one name as a list."""
    ask = lambda first, second: answers or Answers()  # noqa: E731
    runs, same = (Recorded(ONE, "run", **one), Recorded(OTHER, "run", **other)), rules(**options)
    comparison.know_ids(*runs, same)
    rows = comparison.compare(*runs, same, ask)
    found: dict[Any, Any] = {}
    for row in rows:
        found.setdefault((row.kind, row.name), []).append(row.same)
    return {key: each[0] if len(each) == 1 else each for key, each in found.items()}


def test_datasets_of_one_name_are_each_compared() -> None:
    one = {"datasets": [("dataset", "", "1"), ("dataset", "", "2")]}
    assert (
        compared(one, {"datasets": [("dataset", "", "2"), ("dataset", "", "1")]})[("dataset", "dataset")] == [True] * 2
    )
    assert compared(one, {"datasets": [("dataset", "", "2"), ("dataset", "", "3")]})[("dataset", "dataset")] == [
        False,
        True,
    ]
    assert compared(one, {"datasets": [("dataset", "", "2")]})[("dataset", "dataset")] == [False, True]


def test_a_metric_is_the_same_by_all_its_values_and_steps() -> None:
    one = {"metrics": {"loss": [(0, 1.0), (1, 0.5)]}}
    assert compared(one, {"metrics": {"loss": [(0, 1.0), (1, 0.5)]}})[("metric", "loss")]
    for other in ([(0, 0.9), (1, 0.5)], [(0, 1.0), (2, 0.5)], [(1, 0.5)], [(0, 1.0), (1, NAN)]):
        assert compared(one, {"metrics": {"loss": other}})[("metric", "loss")] is False
    assert compared(one, {"metrics": {}})[("metric", "loss")] is False


def test_a_parameter_that_is_absent_is_no_text() -> None:
    assert compared({"parameters": {"p": "(absent)"}}, {})[("parameter", "p")] is False


@pytest.mark.parametrize("name", ["fit_seconds", "mean_fit_time", "duration_s", "system/cpu"])
def test_durations_are_not_compared_and_counted_as_such(name: str) -> None:
    assert compared({"metrics": {name: [(0, 1.0)]}}, {"metrics": {name: [(0, 2.0)]}})[("metric", name)] is None


def test_a_report_shows_nothing_that_its_next_one_cannot_have() -> None:
    """The values of what is left out are in the runs; in the report they would keep it from being reproduced."""
    both = {"metrics": {"fit_seconds": [(0, 1.25)]}, "parameters": {"p": "1"}}
    rows = comparison.compare(Recorded(ONE, "run", **both), Recorded(OTHER, "run", **both), rules(), None)
    assert {row.name: row.original for row in rows} == {"status": "FINISHED", "p": "1", "fit_seconds": ""}


def test_what_is_of_the_run_itself_is_the_same_by_rule() -> None:
    values = [
        (f"runs:/{ONE}/model", f"runs:/{OTHER}/model"),
        (f"tour-{ONE[:8]}", f"tour-{OTHER[:8]}"),
        (f"model_{ONE}", f"model_{OTHER}"),
        ("/tmp/tmpabcdefgh/data/x.csv", "/tmp/git_project_12/tmp12345678/data/x.csv"),
        ("/tmp", "/tmp/git_project_12345678"),
        ("/tmp/x.csv", "/tmp/git_project_12345678/x.csv"),
        ("2023-11-14T22:13:25+00:00", "2027-01-15T08:00:30+00:00"),
        ("1700000012.5", "1800000001"),
        ("model_20231114_221325.pt", "model_20270115_080030.pt"),
        ("epoch_1700000012_final", "epoch_1800000001_final"),
        ("Tue Nov 14 22:13:25 2023", "Fri Jan 15 08:00:30 2027"),
        ("2023-11-15T07:13:25+09:00", "2027-01-15T13:30:30+05:30"),
    ]
    for one, other in values:
        assert compared({"parameters": {"p": one}}, {"parameters": {"p": other}})[("parameter", "p")] is True, one
    for one, other in [
        (f"runs:/{ONE}/model", f"runs:/{'c' * 32}/model"),
        (f"tour-{ONE[:8]}", "tour-cccccccc"),
        (f"tour-{ONE[:8]}", f"tour-{OTHER[:12]}x"),
        ("2023-11-14T22:13:25", "2027-02-15T08:00:30"),
        ("model_20231114", "model_20270116"),
        ("2023-11-14T22:13:25+09:00", "2027-01-15T08:00:30+05:30"),
    ]:
        assert compared({"parameters": {"p": one}}, {"parameters": {"p": other}})[("parameter", "p")] is False, one


def test_the_best_child_is_the_same_only_where_it_stands_for_the_other() -> None:
    ids = ["1" * 32, "2" * 32, "3" * 32, "4" * 32]
    below = [[Recorded(ids[0], "a"), Recorded(ids[1], "b")], [Recorded(ids[2], "a"), Recorded(ids[3], "b")]]
    for best, same in ((ids[3], True), (ids[2], False)):
        one, other = {"parameters": {"best": ids[1]}}, {"parameters": {"best": best}}
        assert compared({**one, "below": below[0]}, {**other, "below": below[1]})[("parameter", "best")] is same


def test_children_are_paired_by_parameters_then_name_then_time() -> None:
    def run(name: str, score: float, start: float, **parameters: str) -> Any:
        metrics = {"score": [(0, score)]}
        return Recorded(f"{name}{start}", name, start=start, parameters=parameters, metrics=metrics)

    def paired(ones: list[Any], others: list[Any]) -> list[Any]:
        return [(one and one.name, other and other.name) for one, other in comparison.pair_runs(ones, others, rules())]

    ones = [run("x", 1, 0, depth="1"), run("y", 2, 1, depth="2")]
    assert paired(ones, [run("v", 2, 0, depth="2"), run("w", 9, 1, depth="1")]) == [("x", "w"), ("y", "v")]
    ones = [run("fold 1", 0.8, 0), run("fold 2", 0.9, 1)]
    others = [run("fold 2", 0.8, 0), run("fold 1", 0.9, 1)]
    assert paired(ones, others) == [("fold 1", "fold 1"), ("fold 2", "fold 2")]
    assert paired([run("p", 1, 0), run("q", 2, 1)], [run("r", 2, 0), run("s", 1, 1)]) == [("p", "s"), ("q", "r")]
    assert paired([run("p", 1, 0)], []) == [("p", None)]


def test_a_model_is_compared_by_its_answers_its_files_or_what_it_holds() -> None:
    one = {"models": [RecordedModel("m", "models:/m-1", inside={"model.pkl": "1"})]}
    same = {"models": [RecordedModel("m", "models:/m-2", inside={"model.pkl": "1"})]}
    other = {"models": [RecordedModel("m", "models:/m-2", inside={"model.pkl": "2"})]}
    assert compared(one, same)[("model", "m")] is True
    assert compared(one, other)[("model", "m")] is None
    assert compared(one, other, Answers(fitted=({"w": 1.0}, {"w": 1.0})))[("model", "m")] is True
    assert compared(one, other, Answers(fitted=({"w": 1.0}, {"w": 2.0})))[("model", "m")] is False
    unseen = sameness.Unseen("Handle")
    assert compared(one, other, Answers(fitted=({"w": unseen}, {"w": unseen})))[("model", "m")] is None
    asked = {"models": [RecordedModel("m", "models:/m-1", has_example=True, inside={"model.pkl": "1"})]}
    assert compared(asked, same)[("prediction", "m")] is None
    assert compared(asked, same, Answers(predictions=([1.0], [2.0])))[("prediction", "m")] is False


def test_tolerance_and_missing_values() -> None:
    def alike(one: Any, other: Any, **options: Any) -> bool:
        return rules(**options).alike(content.plain(one), content.plain(other))

    assert alike(0.1, 0.1)
    assert not alike(0.1, 0.1 + 2e-16)
    assert alike(NAN, pd.NA)
    assert not alike(NAN, 1.0, atol=9.0)
    assert alike(100.0, 101.0, rtol=0.01)
    assert not alike(0.0, 1e-9, rtol=0.1)
    assert alike(np.array([[1.0, 2.0]]), [[1.0, 2.1]], atol=0.2)
    assert not alike(np.array([1.0]), [1.0, 1.0], atol=1.0)
    assert not alike(True, 1)
    assert not alike(pd.DataFrame([[1, 2]], columns=["a", "a"]), pd.DataFrame([[1, 3]], columns=["a", "a"]))
    assert not alike(pd.DataFrame({"a": [1.0]}), pd.DataFrame({"b": [1.0]}))


def test_what_stands_for_an_object_of_another_process_cannot_be_looked_into() -> None:
    class Proxy:
        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            return lambda *arguments: 1 / 0

    assert content.plain([Proxy(), 1]) == [content.Unseen(Proxy.__qualname__), 1]


def test_files_are_compared_by_what_they_say(tmp_path: Path) -> None:
    def same(name: str, one: str, other: str) -> Any:
        files = [tmp_path / folder / name for folder in "ab"]
        for file, text in zip(files, (one, other), strict=True):
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, newline="")
        return compared({"artifacts": {name: files[0]}}, {"artifacts": {name: files[1]}})[("artifact", name)]

    assert same("note.txt", "a\r\nb\r\n", "a\nb\n")  # as Windows ends lines
    assert same("t.csv", "a,fit_time\n1,2\n", "a,fit_time\n1,3\n")
    assert not same("t.csv", "a,b\n1,2\n", "a,b\n1,3\n")
    assert same("r.json", json.dumps({"a": 1, "fit_seconds": 2}), json.dumps({"fit_seconds": 3, "a": 1}))
    assert not same("r.json", '{"a": 1}', '{"a": 2}')
    assert same("r.yaml", "a: 1\nfit_seconds: 2\n", "fit_seconds: 3\na: 1\n")
    assert same("r.yaml", "at: 2023-11-14 22:13:25\n", "at: 2027-01-15 08:00:30\n")
    assert not same("r.yaml", "a: 1\n", "a: 2\n")
    for name in ("r.json", "r.yaml", "t.csv"):  # a file that is not what its name says
        assert same(name, f"a: [{ONE}\n1,2,3", f"a: [{OTHER}\n1,2,3")
        assert not same(name, f"a: [{ONE}\n1,2,3", f"a: [{OTHER}\n1,2,4")
    assert same("log.txt", f"in /tmp/tmpabcdefgh as {ONE}", f"in /var/tmp12345678 as {OTHER}")
    assert not same("log.txt", "score 1", "score 2")


def test_names_that_are_given_by_chance(tmp_path: Path) -> None:
    def alike(one: dict[str, str], other: dict[str, str]) -> list[Any]:
        both = []
        for number, run in enumerate((one, other)):
            files = {name: tmp_path / f"{number}{name}" for name in run}
            for name, text in run.items():
                files[name].write_text(text)
            both.append({"artifacts": files})
        return [same for (kind, _), same in compared(*both).items() if kind == "artifact"]

    chance = [f"dogs+{digit * 8}-1234-4abc-8abc-{digit * 12}.txt" for digit in "1234"]
    events = [f"events.out.tfevents.{second}.vm.{process}.0.v2" for second, process in ((17, 11), (18, 12))]
    one = {chance[0]: "a", chance[1]: "b"}
    assert alike(one, {chance[2]: "b", chance[3]: "a"}) == [[True, True]]
    assert alike(one, {chance[2]: "b", chance[3]: "c"}) == [[False, True]]
    assert alike({chance[0]: "a"}, {chance[2].replace("dogs", "cats"): "a"}) == [False, False]
    assert len(alike({events[0]: "a"}, {events[1]: "b"})) == 1


def test_a_model_that_was_begun_and_never_finished_is_no_model(tmp_path: Path) -> None:
    whole, half = RecordedModel("m", "models:/m-1", folder=tmp_path), RecordedModel("m", "models:/m-2")
    assert compared({"models": [whole]}, {"models": [half]})[("model", "m")] is False


def test_values_that_only_look_the_same() -> None:
    def alike(one: Any, other: Any) -> bool:
        return rules().alike(content.plain(one), content.plain(other))

    assert not alike(2**60, 2**60 + 1)
    assert not alike(np.array([2**60]), np.array([2**60 + 1]))
    assert not alike(10**400, 1.0)
    assert alike(np.array([1.0, NAN]), np.array([1.0, NAN]))
    assert not alike(np.ma.masked_array([1.0, 2.0], [False, True]), np.ma.masked_array([1.0, 2.0], [False, False]))
    assert not alike(np.zeros((2, 2)), [np.zeros((2, 2)), np.zeros((2, 3))])
    assert not alike({1: "a", "1": "b"}, {1: "c", "1": "b"})
    for kind in (pd.DataFrame, pd.Series):
        tables = [kind([1, 2], index=index) for index in (["a", "b"], ["a", "c"], [0, 1])]
        assert alike(tables[0], tables[0].copy())
        assert not alike(tables[0], tables[1])
        assert not alike(tables[0], tables[2])
    times = [
        {f"2023-11-14T22:13:2{second}": value for second, value in enumerate(values)} for values in ((1, 2), (9, 2))
    ]
    assert not alike(*times)
    assert alike(times[0], {"2027-01-15T08:00:30": 1, "2027-01-15T08:00:31": 2})


def test_what_lies_too_deep_cannot_be_looked_into() -> None:
    deep: list[Any] = [1]
    for _ in range(content.DEEP + 2):
        deep = [deep]
    found = content.plain(deep)
    while isinstance(found, list):
        (found,) = found
    assert isinstance(found, content.Unseen)


def test_functions_and_classes_that_no_module_has_are_compared_by_what_they_bring_along() -> None:
    class Weighted:
        def __init__(self, weight: float) -> None:
            self.weight = weight

        def predict(self, value: float) -> float:
            return value * self.weight

    def closed(weight: float) -> Any:
        return lambda value: value * weight

    def a_class(weight: float) -> Any:
        return type("Model", (), {"weight": weight, "predict": lambda self, value: value * self.weight})

    def of_a_notebook(weight: float) -> Any:
        names: dict[str, Any] = {"__name__": "__main__", "WEIGHT": weight, "np": np}
        exec("def predict(value):\n    return np.abs(value) * WEIGHT\n", names)
        return names["predict"]

    makers = [closed, a_class, of_a_notebook, lambda weight: Weighted(weight).predict, lambda weight: closed(weight)]
    for make in [*makers, lambda weight: np.vectorize(closed(weight))]:
        one, same, other = (content.plain(make(weight)) for weight in (1.0, 1.0, 2.0))
        assert rules().alike(one, same)
        assert not rules().alike(one, other)
    assert content.plain([json.dumps, np.float64, np]) == ["dumps", "float64", "numpy"]


def test_a_setting_that_a_model_was_logged_with_is_compared() -> None:
    def model(number: int, threshold: float) -> dict[str, Any]:
        files, config = {"model.pkl": "1"}, {"threshold": threshold}
        return {"models": [RecordedModel("m", f"models:/m-{number}", inside=files, config=config)]}

    assert compared(model(1, 0.5), model(2, 0.5))[("setting", "m")] is True
    assert compared(model(1, 0.5), model(2, 0.6))[("setting", "m")] is False


def test_files_that_only_look_the_same(tmp_path: Path) -> None:
    def contents(name: str, *saved: bytes) -> list[Any]:
        file, found = tmp_path / name, []
        for each in saved:
            file.write_bytes(each)
            found.append(content.content(file))
        return found

    def tarred(text: str, when: int) -> bytes:
        file, member = io.BytesIO(), tarfile.TarInfo("x.txt")
        member.size, member.mtime = len(text), when
        with tarfile.open(fileobj=file, mode="w") as archive:
            archive.addfile(member, io.BytesIO(text.encode()))
        return file.getvalue()

    def zipped_up(text: str, when: int) -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(zipfile.ZipInfo("x.txt", (2000 + when, 1, 1, 0, 0, 0)), text)
        return file.getvalue()

    def film(*shades: float) -> bytes:
        file, frames = io.BytesIO(), [Image.fromarray(np.full((4, 4), shade, "float32")) for shade in shades]
        frames[0].save(file, "TIFF", save_all=True, append_images=frames[1:])
        return file.getvalue()

    one, other = contents("t.csv", b'a,b\n"x\ny",1\n', b'a,b\n"xy",1\n')
    assert one != other
    one, other = contents("events.out.tfevents.17.vm.11.0.v2", b"a", b"b")
    assert isinstance(one, content.Unseen)
    assert isinstance(other, content.Unseen)
    one, other = contents("t.txt", b"a\x0cb\n", b"a\nb\n")
    assert one != other
    one, other = contents("t.json", b'{"a": 1, "a": 2}', b'{"a": 3, "a": 2}')
    assert one != other
    one, other = contents("t.yaml", b"a: 1\na: 2\n", b"a: 3\na: 2\n")
    assert one != other
    one, other, third = contents("t.tiff", film(1, 300), film(1, 301), film(1, 300))
    assert one == third != other
    zipped = [gzip.compress(text, mtime=when) for when, text in ((1, b"a\n1\n"), (2, b"a\n1\n"), (1, b"a\n2\n"))]
    one, same, other = contents("t.csv.gz", *zipped)
    assert one == same != other
    for pack, suffix in ((tarred, "tar"), (tarred, "tgz"), (zipped_up, "xlsx")):
        one, same, other = contents(f"t.{suffix}", pack("x", 1), pack("x", 2), pack("y", 1))
        assert one == same != other
