"""The rules of `-b databricks-jobs`: what a configuration may hold, what of a project is sent, and how it is run."""

from __future__ import annotations

import io
import json
import os
import shlex
import sys
import tarfile
from pathlib import Path
from typing import Any

import click
import pytest
from examples import COLLECTION
from mlflow.exceptions import ExecutionException
from mlflow.projects.utils import load_project
from mlflow_databricks_jobs import run_entry_point
from mlflow_databricks_jobs.backend import waits
from mlflow_databricks_jobs.config import JobConfig, python_of, python_of_job, read_config
from mlflow_databricks_jobs.project import command_of, pack, project_files, requirement_files, requirements_of

WORD = "a 'b' | $c"
CLUSTER = {"spark_version": "17.3.x-scala2.13", "node_type_id": "m5d.large", "num_workers": 0}
BAD: list[tuple[dict[str, Any], str]] = [
    ({"new_clusters": {}}, "has no key 'new_clusters'"),
    ({"new_cluster": CLUSTER, "existing_cluster_id": "1"}, "give one of them"),
    ({"new_cluster": {**CLUSTER, "num_worker": 1}}, "holds new_cluster.num_worker, which Databricks does not have"),
    ({"new_cluster": {**CLUSTER, "spark_version": None}}, "lacks new_cluster.spark_version"),
    ({"new_cluster": {**CLUSTER, "spark_version": "12.2.x-scala2.12"}}, "no longer supports: take 17.3 LTS"),
    ({"new_cluster": {**CLUSTER, "spark_version": "latest"}}, "holds the runtime 'latest'"),
    ({"libraries": []}, "holds libraries without a cluster"),
    ({"new_cluster": CLUSTER, "libraries": ["skops"]}, "holds the library 'skops'"),
    ({"new_cluster": CLUSTER, "libraries": [{"pip": "skops"}]}, "holds the library {'pip': 'skops'}"),
    ({"timeout_seconds": "60"}, "holds timeout_seconds: '60', which must be a whole number"),
    ({"max_retries": True}, "holds max_retries: True"),
    ({"volume": "main.default.files"}, "must be /Volumes/<catalog>/<schema>/<volume>"),
    ({"run_as": {"service_principal_name": "x"}}, "holds run_as without volume"),
    ({"run_as": {"name": "x"}, "volume": "/Volumes/a/b/c"}, 'must be {"service_principal_name": ...}'),
]


@pytest.mark.parametrize(("given", "line"), BAD)
def test_a_configuration_that_would_fail_later_is_refused(given: dict[str, Any], line: str) -> None:
    with pytest.raises(ExecutionException) as refused:
        read_config({**given, "ENV_MANAGER": None})
    assert line in str(refused.value)
    assert str(refused.value).startswith("The backend configuration ")


def test_no_configuration_means_serverless_a_flat_one_a_cluster_and_mlflows_own_keys_are_passed_over() -> None:
    config = read_config({"ENV_MANAGER": "local", "SYNCHRONOUS": False, "STORAGE_DIR": None})
    assert config == JobConfig()
    assert (config.serverless, config.environment_version) == (True, "5")
    assert read_config({**CLUSTER, "timeout_seconds": 60}) == JobConfig(new_cluster=CLUSTER, timeout_seconds=60)


EXAMPLES = sorted(path.parent for path in COLLECTION.glob("*/cluster.json"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_the_configurations_of_each_example_differ_by_the_machine_and_install_what_it_pins(example: Path) -> None:
    names = ("cluster.json", "cluster-aws.json", "cluster-oneline.json")
    azure, aws, line = (json.loads((example / name).read_text(encoding="utf-8")) for name in names)
    assert line == azure
    assert {**aws["new_cluster"], "node_type_id": "Standard_DS3_v2"} == azure["new_cluster"]
    assert not any(read_config(said).serverless for said in (azure, aws))
    assert (example / names[2]).read_text(encoding="utf-8").count("\n") == 1
    installed = {library["pypi"]["package"] for library in azure["libraries"]}
    assert {package.partition("==")[0] for package in installed} >= {"mlflow", "skops", "scikit-learn"}
    assert installed <= set((example / "requirements.txt").read_text(encoding="utf-8").split())


PYTHONS = {"14.3.x-scala2.12": "3.10", "15.4.x-cpu-ml-scala2.12": "3.11", "16.4.x": "3.12", "19.0.x": "3.12"}


@pytest.mark.parametrize(("version", "python"), PYTHONS.items())
def test_the_python_of_a_runtime(version: str, python: str) -> None:
    assert python_of(version) == python


@pytest.mark.parametrize(("version", "python"), [("1", "3.10"), ("2", "3.11"), ("5", "3.12"), ("latest", "3.12")])
def test_the_python_of_a_serverless_environment(version: str, python: str) -> None:
    asks_nobody: Any = None
    found = python_of_job(read_config({"environment_version": version}), asks_nobody)
    assert found == (python, f"the serverless environment {version}")


def project(folder: Path, mlproject: str, **files: str) -> Any:
    (folder / "MLproject").write_text(mlproject)
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return load_project(str(folder))


def test_the_requirements_of_a_conda_environment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = project(
        tmp_path,
        "conda_env: env/conda.yaml\nentry_points: {}",
        env__conda_dot_yaml="dependencies: [python=3.11, pip, conda-forge::numpy=2.1.0, {pip: ['-r more.txt', skops]}]",
        env__more_dot_txt="# pinned\nclick==8.2 ; python_version > '3'\n-r last.txt\n",
        env__last_dot_txt="pandas==3.0 \\\n  --hash=sha256:1\n",
    )
    lines = requirements_of(found)
    assert lines[0] == "numpy==2.1.0"
    assert [line.split()[0] for line in lines] == ["numpy==2.1.0", "click==8.2", "pandas==3.0", "skops"]
    assert "Databricks takes numpy==2.1.0 from PyPI" in capsys.readouterr().out


def test_the_requirements_of_a_python_environment_where_constraints_stay_constraints_and_of_none(
    tmp_path: Path,
) -> None:
    found = project(
        tmp_path,
        "python_env: python_env.yaml\nentry_points: {}",
        python_env_dot_yaml="python: '3.11'\nbuild_dependencies: [pip]\ndependencies: ['-r requirements.txt', pandas]",
        requirements_dot_txt="-c pins.txt\nscikit-learn==1.9.1\n",
        pins_dot_txt="scipy==1.17.0\n-r more.txt",
        more_dot_txt="numpy==2.4.0  # of scipy\n",
    )
    assert requirement_files(requirements_of(found)) == {
        "requirements.txt": "-c constraints.txt\nscikit-learn==1.9.1\npandas\n",
        "constraints.txt": "scipy==1.17.0\nnumpy==2.4.0\n",
    }
    assert requirement_files(["pandas"]) == {"requirements.txt": "pandas\n"}
    (tmp_path / "python_env.yaml").unlink()
    assert requirement_files(requirements_of(project(tmp_path, "entry_points: {}"))) == {}


@pytest.mark.parametrize(
    ("mlproject", "requirement", "line"),
    [
        ("docker_env: {image: python}", "", "has docker_env"),
        ("databricks_spark_job: {python_file: a.py}", "", "run it by `-b databricks`"),
        ("python_env: python_env.yaml", "-e ../kit", "'-e ../kit' is a path"),
        ("python_env: python_env.yaml", "./kit", "'./kit' is a path"),
        ("python_env: python_env.yaml", "-r gone.txt", "gone.txt cannot be read"),
    ],
)
def test_an_environment_that_databricks_cannot_install_is_refused(
    mlproject: str, requirement: str, line: str, tmp_path: Path
) -> None:
    found = project(tmp_path, mlproject, python_env_dot_yaml=f"dependencies: ['{requirement}']")
    with pytest.raises(ExecutionException, match=line):
        requirements_of(found)


# A command, what the job is told, and the word that the file `say.py` or the module `pack.say` prints.
COMMANDS = [
    ("python say.py {x}", {"python": ["say.py", WORD]}),
    ("python -m pack.say {x}", {"python": ["-m", "pack.say", WORD]}),
    ("python say.py {x} > log; cat log", {"shell": f"python say.py {shlex.quote(WORD)} > log; cat log"}),
    ("bash run.sh {x}", {"shell": f"bash run.sh {shlex.quote(WORD)}"}),
]


@pytest.mark.parametrize(("command", "expected"), COMMANDS)
def test_a_python_file_runs_in_the_process_that_has_spark_and_the_rest_in_a_shell(
    command: str,
    expected: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    say = "import sys, os\nfrom sibling import name\nprint(name, __name__, sys.argv[1], os.getpid())\nsys.exit(0)\n"
    found = project(
        tmp_path,
        f"entry_points: {{main: {{parameters: {{x: string}}, command: '{command}'}}}}",
        **{"say_dot_py": say, "pack__say_dot_py": say, "sibling_dot_py": "name = 'SIBLING'\n"},
        run_dot_sh='python say.py "$1"\n',
    )
    job = command_of(found, "main", {"x": WORD}, tmp_path)
    assert job == expected
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(sys, "path", [*sys.path])
    run_entry_point.run_and_end(job, "")
    *words, process = capfd.readouterr().out.rsplit(maxsplit=1)
    assert words == [f"SIBLING __main__ {WORD}"]
    assert (int(process) == os.getpid()) is ("python" in job)
    sys.modules.pop("sibling", None)


def test_a_command_that_fails_fails_its_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "refuse.py").write_text("import sys\nsys.exit(2)\n")
    for job in ({"python": ["refuse.py"]}, {"shell": "exit 3"}):
        with pytest.raises(SystemExit) as ended:
            run_entry_point.run_and_end(job, "")
        assert ended.value.code in (2, 3)


def test_a_path_is_one_of_the_job_and_a_file_of_this_machine_is_refused(tmp_path: Path) -> None:
    mlproject = "entry_points: {main: {parameters: {x: path}, command: 'python train.py {x}'}}"
    (tmp_path / "project").mkdir()
    found = project(tmp_path / "project", mlproject, data_dot_csv="")
    for there in ("/Volumes/a/b/c/data.csv", "data.csv"):
        assert command_of(found, "main", {"x": there}, tmp_path / "project") == {"python": ["train.py", there]}
    (tmp_path / "mine.csv").touch()
    with pytest.raises(ExecutionException, match="a file on this machine: copy it to a Volume"):
        command_of(found, "main", {"x": str(tmp_path / "mine.csv")}, tmp_path / "project")


def test_what_git_would_not_commit_stays_here(tmp_path: Path) -> None:
    files = ["a.secret", "mlflow.db", "mlruns/0/meta.yaml", "__pycache__/a.cpython-311.pyc", "support/table.py"]
    project(tmp_path, "entry_points: {}", _dot_gitignore="*.secret")
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [path.as_posix() for path in project_files(tmp_path)] == [".gitignore", "MLproject", "support/table.py"]
    with tarfile.open(fileobj=io.BytesIO(pack(tmp_path, {"shell": "ls"}))) as archive:
        assert set(archive.getnames()) == {
            *("project/.gitignore", "project/MLproject", "project/support/table.py", "job.json"),
        }


def test_only_the_command_mlflow_run_waits_for_a_job_unless_told_otherwise() -> None:
    def run() -> None: ...

    assert not waits(JobConfig())
    with click.Context(click.Command("run", callback=run)):  # such as git_project's, which starts several
        assert not waits(JobConfig())
    run.__module__ = "mlflow.cli"
    with click.Context(click.Command("run", callback=run)):
        assert waits(JobConfig())
        assert not waits(JobConfig(wait=False))
