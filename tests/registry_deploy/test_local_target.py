"""The local deployment target, with real model servers, under load and under faults."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aiohttp
import mlflow
import pandas as pd
import psutil
import pytest
import requests
from examples import module
from running import COLLECTION, PATIENCE, PROGRAMS, free_port, wait_until

EXAMPLE = COLLECTION / "registry_deploy"
local_target_module: Any = module("registry_deploy", "local_target")
local_proxy, processes_module = local_target_module.local_proxy, local_target_module.processes
LocalTarget, DeploymentError = local_target_module.LocalTarget, local_target_module.DeploymentError
holder, read_state = processes_module.holder, processes_module.read_state
FAULTS = ("crash", "hang", "wrong")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Versions 1 to 3 of `numbers`, its faulty versions, one without an input example: version by what it is."""
    folder = tmp_path_factory.mktemp("registry")
    patch = pytest.MonkeyPatch()
    patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    patch.delenv("DEPLOYMENT_TOKEN", raising=False)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    experiment = mlflow.create_experiment("local_target", artifact_location=(folder / "artifacts").as_uri())
    versions = {}
    for number, kind in enumerate(["1", "2", "3", *FAULTS, "no example"], start=1):
        with mlflow.start_run(experiment_id=experiment):
            info = mlflow.pyfunc.log_model(
                name="numbered",
                python_model=str(PROGRAMS / "numbered_model.py"),
                model_config={"number": number, "fault": kind},
                input_example=None if kind == "no example" else pd.DataFrame({"x": [1.0, 2.0]}),
                pip_requirements=["mlflow"],
                registered_model_name="numbers",
            )
            versions[kind] = str(info.registered_model_version)
    mlflow.MlflowClient().set_registered_model_alias("numbers", "champion", versions["1"])
    yield versions
    mlflow.set_tracking_uri(before)
    patch.undo()


@contextlib.contextmanager
def local_target(directory: Path, **options: Any) -> Iterator[Any]:
    options = {"port": free_port(), "start_timeout": PATIENCE, **options}
    target = LocalTarget("numbers", directory=directory, **options)
    try:
        yield target
    finally:
        started = processes(directory)
        target.undeploy()
        wait_until(lambda: not running(started))
        assert not directory.exists()


@pytest.fixture(scope="module")
def live(models: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Version 1 deployed, for tests that leave the traffic as it was."""
    with local_target(tmp_path_factory.mktemp("live") / "numbers") as target:
        target.deploy("models:/numbers/1")
        yield target


def running(started: list[psutil.Process]) -> list[psutil.Process]:
    """Those of the processes that have not ended."""
    return [process for process in started if process.is_running() and process.status() != "zombie"]


def processes(directory: Path) -> list[psutil.Process]:
    """Everything that runs for a deployment: proxy and model servers."""
    locks = directory.rglob("*.lock")
    records = [holder(lock.parent, lock.stem) for lock in locks if lock.stem != "operation"]
    return [psutil.Process(record["pid"]) for record in records if record]


def pid(target: Any, colour: str | None = None) -> int:
    """The process of a colour's server, or of the proxy."""
    if colour is None:
        record = holder(target.directory, "proxy")
    else:
        state = read_state(target.directory)
        assert state is not None
        record = holder(Path(state.servers[colour].folder), "server")
    assert record is not None
    return record["pid"]


def traffic(target: Any) -> dict[str, tuple[str, int]]:
    return {name: (colour.model_version, colour.traffic) for name, colour in target.status().colours.items()}


def in_flight(target: Any) -> int:
    """How many requests the model servers are answering."""
    url = target.status().scoring_uri.replace("/invocations", "/-/status")
    return sum(server["in_flight"] for server in requests.get(url, timeout=PATIENCE).json().values())


def answer(target: Any) -> list[float]:
    return target.score(pd.DataFrame({"x": [1.0]}))


@contextlib.contextmanager
def load(target: Any, minimum: int = 0, *more: str) -> Iterator[dict[str, int]]:
    """Constant load from another process; its counts are in the yielded dict when the block has ended."""
    url = target.status().scoring_uri
    command = [sys.executable, str(PROGRAMS / "load.py"), url, str(minimum), *more]
    counts: dict[str, int] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield counts
        finally:
            process.send_signal(signal.SIGTERM)
            counts.update(json.loads(process.stdout.read()))
    print(f"\n{counts}")


def deploy_in_another_process(target: Any, model_uri: str) -> subprocess.Popen[bytes]:
    code = (
        "import sys; from pathlib import Path; from local_target import LocalTarget;"
        "LocalTarget('numbers', directory=Path(sys.argv[1]), port=int(sys.argv[2])).deploy(sys.argv[3])"
    )
    environment = os.environ | {"PYTHONPATH": str(EXAMPLE), "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()}
    command = [sys.executable, "-c", code, str(target.directory), str(target.port), model_uri]
    return subprocess.Popen(command, env=environment)


def restarts(target: Any, colour: str) -> int:
    """How often the server of a colour has been started again."""
    told = re.search(r"\((\d+) x\)", target.status().colours[colour].state)
    return int(told[1]) if told else 0


def assert_nothing_lost(counts: dict[str, int]) -> None:
    answered = sum(count for what, count in counts.items() if what.startswith("version "))
    assert answered == counts["sent"], counts


def test_no_request_is_lost(models: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """2,000 requests over deploys, canaries, rollbacks, and servers and proxies that are killed or hang.

    A killed proxy breaks its connections and nobody but `start` brings it back: its clients send again.
    """
    with local_target(tmp_path / "numbers") as target:
        assert target.deploy("models:/numbers@champion").colours["blue"].state == "healthy"
        with load(target, 2000, "again") as counts:
            target.deploy("models:/numbers/2", canary=25)
            assert traffic(target) == {"blue": ("1", 75), "green": ("2", 25)}
            with pytest.raises(DeploymentError, match=r"canary is under way \(version 1 75 %, version 2 25 %\)"):
                target.deploy("models:/numbers/3")
            killed = pid(target, "green")
            os.kill(killed, signal.SIGKILL)
            wait_until(lambda: "had died" in target.status().colours["green"].state)
            target.deploy("models:/numbers/2")
            assert traffic(target) == {"blue": ("1", 0), "green": ("2", 100)}
            os.kill(pid(target, "green"), signal.SIGSTOP)
            wait_until(lambda: restarts(target, "green") >= 2)
            target.deploy("models:/numbers/3")
            assert traffic(target) == {"blue": ("3", 100), "green": ("2", 0)}
            os.kill(pid(target), signal.SIGKILL)
            wait_until(lambda: holder(target.directory, "proxy") is None)
            target.rollback()  # and starts the proxy
            assert traffic(target) == {"blue": ("3", 0), "green": ("2", 100)}
            with pytest.raises(DeploymentError, match="nothing to roll back to"):
                target.rollback()
            os.kill(pid(target), signal.SIGSTOP)  # it is stopped for a while only
            time.sleep(1)
            os.kill(pid(target), signal.SIGCONT)
            hanging = pid(target)
            os.kill(hanging, signal.SIGSTOP)  # and now for good
            with monkeypatch.context() as patch:
                patch.setattr(local_target_module, "PROXY_TIMEOUT", 1.0)
                with pytest.raises(DeploymentError, match="the proxy of numbers does not answer"):
                    target.status()
            target.start()
            assert pid(target) != hanging
            target.deploy("models:/numbers/3")
            assert traffic(target) == {"blue": ("3", 100), "green": ("2", 0)}
    again = counts.pop("sent again")
    assert_nothing_lost(counts)
    assert counts["sent"] >= 2000
    assert again > 0
    assert {"version 1", "version 2", "version 3"} < set(counts)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("crash", r"ended while starting \(exit code 1\).*the weights are gone"),
        ("wrong", r"wrong answer from green of numbers: .*7\.0.* for the model.s input example, .*6\.0.* here"),
        ("hang", r"did not answer /ping in 6 s"),
    ],
)
def test_a_faulty_version_changes_nothing(
    live: Any, models: dict[str, str], fault: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault == "hang":
        monkeypatch.setattr(live, "start_timeout", 6)
    before = (live.directory / "state.json").read_text(), traffic(live), pid(live, "blue"), pid(live)
    with load(live) as counts, pytest.raises(DeploymentError, match=r"(?s)" + message) as caught:
        live.deploy(f"models:/numbers/{models[fault]}")
    assert "the traffic is as it was" in str(caught.value)
    assert_nothing_lost(counts)
    assert ((live.directory / "state.json").read_text(), traffic(live), pid(live, "blue"), pid(live)) == before
    assert len(processes(live.directory)) == 2


def test_a_killed_server_is_started_again_and_no_request_is_lost(live: Any) -> None:
    killed = pid(live, "blue")
    ping = live.status().scoring_uri.replace("/invocations", "/ping")
    assert requests.get(ping, timeout=PATIENCE).status_code == 200
    with load(live, minimum=300) as counts:
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: requests.get(ping, timeout=PATIENCE).status_code == 503)
        wait_until(lambda: "had died" in live.status().colours["blue"].state)
    assert_nothing_lost(counts)
    assert pid(live, "blue") != killed
    assert "blue (version 1) is not running: starting it" in (live.directory / "proxy.log").read_text()


def test_a_request_that_the_model_refuses_is_answered_with_its_reason(live: Any) -> None:
    with pytest.raises(DeploymentError, match=r"answered 400: .*'x'"):
        live.score(pd.DataFrame({"y": [1.0]}))


def test_a_request_that_kills_servers_is_given_up(live: Any) -> None:
    with pytest.raises(DeploymentError, match="502: given up: 3 model servers in a row broke off at this request"):
        live.score(pd.DataFrame({"x": [-1.0]}))
    assert answer(live) == [1.0]


def test_the_previous_version_takes_over_while_the_live_one_restarts(models: dict[str, str], tmp_path: Path) -> None:
    """Whether it died or hangs: nobody waits until it is there again."""
    with local_target(tmp_path / "numbers") as target:
        with deploy_in_another_process(target, "models:/numbers/1") as process:
            assert process.wait() == 0
        assert answer(target) == [1.0]  # it goes on when the program that deployed it has ended
        target.deploy("models:/numbers/2")
        for number in (signal.SIGKILL, signal.SIGSTOP):
            struck, before = pid(target, "green"), restarts(target, "green")
            os.kill(struck, number)
            assert answer(target) == [1.0]
            wait_until(lambda: restarts(target, "green") > before)  # noqa: B023
            wait_until(lambda: answer(target) == [2.0])
            assert pid(target, "green") != struck
        assert "green (version 2) hangs: it is killed" in (target.directory / "proxy.log").read_text()
        assert answer(target) == [2.0]

        servers = pid(target, "blue"), pid(target, "green")
        os.kill(pid(target), signal.SIGKILL)
        wait_until(lambda: holder(target.directory, "proxy") is None)
        assert "the proxy is not running" in target.status().colours["green"].state
        with pytest.raises(DeploymentError, match="cannot be reached"):
            answer(target)
        assert target.start().colours["green"].state == "healthy"
        assert traffic(target) == {"blue": ("1", 0), "green": ("2", 100)}
        assert (pid(target, "blue"), pid(target, "green")) == servers
        assert answer(target) == [2.0]

        # The version to go back to cannot be started any more: said, and a good version can be deployed all the same.
        state = read_state(target.directory)
        assert state is not None
        Path(state.servers["blue"].model).rename(tmp_path / "gone")
        os.kill(servers[0], signal.SIGKILL)
        wait_until(lambda: target.status().colours["blue"].state.startswith("down"))
        target.start_timeout = 1
        with pytest.raises(DeploymentError, match=r"did not answer /ping in 1 s: see .*server\.log; the traffic"):
            target.rollback()
        assert traffic(target)["green"] == ("2", 100)
        target.start_timeout = PATIENCE
        os.kill(pid(target), signal.SIGKILL)  # and a deploy brings the proxy back by itself
        target.deploy("models:/numbers/3")
        assert traffic(target) == {"blue": ("3", 100), "green": ("2", 0)}
        assert answer(target) == [3.0]
        os.kill(pid(target), signal.SIGKILL)  # undeploy stops the servers all the same


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a process waits for")
def test_a_server_that_waits_for_a_processor_is_not_taken_for_one_that_hangs() -> None:
    with contextlib.ExitStack() as stack:
        loops = [psutil.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
        for loop in loops:
            stack.callback(loop.wait)
            stack.callback(loop.kill)
            loop.cpu_affinity([sorted(os.sched_getaffinity(0))[0]])
        loops[0].nice(19)
        wait_until(lambda: local_proxy.processor_seconds(loops[0].pid)[1])
        loops[0].suspend()  # a signal reaches a process when it gets the processor, which may take its time here
        wait_until(lambda: loops[0].status() == psutil.STATUS_STOPPED)
        seconds, wants = local_proxy.processor_seconds(loops[0].pid)
        assert not wants
        assert local_proxy.processor_seconds(loops[0].pid) == (seconds, False)
    assert local_proxy.processor_seconds(loops[0].pid) == (0, False)


def test_nobody_else_reads_or_asks(live: Any) -> None:
    """The files are the owner's, the servers answer the proxy only, and the proxy's port alone is not trusted."""
    files = [path for path in live.directory.rglob("*") if path.is_file() and "model" not in path.parts]
    assert {path.name for path in files} >= {"state.json", "proxy.lock", "proxy.log", "server.lock", "server.log"}
    assert {path.stat().st_mode & 0o077 for path in files} == {0}
    record = holder(Path(read_state(live.directory).servers["blue"].folder), "server")
    own = f"http://127.0.0.1:{record['port']}"
    assert [
        requests.get(f"{own}/ping", timeout=PATIENCE).status_code,
        requests.post(own, timeout=PATIENCE).status_code,
    ] == [403, 403]

    os.kill(pid(live), signal.SIGKILL)
    wait_until(lambda: holder(live.directory, "proxy") is None)
    with socket.create_server(("127.0.0.1", live.port)) as listening:
        listening.settimeout(1)
        with pytest.raises(DeploymentError, match="cannot be reached"):
            answer(live)
        with pytest.raises(TimeoutError):
            listening.accept()
    live.start()
    assert answer(live) == [1.0]


def test_a_long_request_is_finished_by_the_version_that_began_it(models: dict[str, str], tmp_path: Path) -> None:
    with local_target(tmp_path / "numbers") as target, ThreadPoolExecutor() as pool:

        def ask(seconds: float) -> Future[list[float]]:
            reply = pool.submit(target.score, pd.DataFrame({"x": [100 + seconds]}))
            wait_until(lambda: in_flight(target))
            return reply

        target.deploy("models:/numbers/1")
        target.deploy("models:/numbers/2")
        reply = ask(6)
        target.rollback()
        target.deploy("models:/numbers/3")  # takes the place of version 2, but only when that has answered
        assert reply.done()
        assert reply.result() == [2.0]
        reply = ask(2)
        target.undeploy()
        assert reply.result() == [3.0]


def test_an_interrupted_switch_leaves_the_state_as_it_was(live: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before, state = live.status(), read_state(live.directory)
    follow, calls = live._follow, []

    def interrupted(state: Any) -> bool:
        calls.append(state)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return follow(state)

    monkeypatch.setattr(live, "_follow", interrupted)
    with pytest.raises(KeyboardInterrupt), live._undone(before, "blue", {"blue": 100}):
        live._route(before, {"blue": 100}, "blue")
    assert read_state(live.directory) == state
    assert calls[1] == state
    assert answer(live) == [1.0]


def test_two_deploys_at_once_and_one_that_is_killed(live: Any, models: dict[str, str]) -> None:
    with deploy_in_another_process(live, f"models:/numbers/{models['hang']}") as first:
        wait_until(lambda: len(processes(live.directory)) == 3)
        message = f"deploy by process {first.pid} of numbers is under way: try again when it has ended"
        for operation in (lambda: live.deploy("models:/numbers/2"), live.rollback, live.undeploy):
            with pytest.raises(DeploymentError, match=f"^{message}$"):
                operation()
        first.kill()
    assert len(processes(live.directory)) == 3
    live.deploy("models:/numbers/1")
    assert len(processes(live.directory)) == 2
    assert answer(live) == [1.0]


def test_a_port_taken_by_another_program(models: dict[str, str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with local_target(tmp_path / "numbers", port=port) as target:
            with pytest.raises(DeploymentError, match=f"^port={port} of 127.0.0.1 is taken by another program"):
                target.deploy("models:/numbers/1")
            assert target.status().colours == {}


def test_a_token(
    models: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(DeploymentError, match=r"^host=0\.0\.0\.0 lets other machines in: set a token"):
        LocalTarget("numbers", directory=tmp_path / "open", host="0.0.0.0").deploy("models:/numbers/1")
    secret = "s3cret-t0ken"
    monkeypatch.setenv("DEPLOYMENT_TOKEN", secret)
    said: list[str] = []
    with local_target(tmp_path / "numbers", host="0.0.0.0", say=said.append) as target, caplog.at_level("DEBUG"):
        status = target.deploy(f"models:/numbers/{models['no example']}", canary=10)
        assert "no input example: its smoke test is /ping only" in said[0]
        assert status.colours["blue"].traffic == 100
        alone = "100 % of the requests (not 10 %: no other version has any)"
        assert said[-1] == f"numbers: numbers version 7 answers {alone}, from blue"
        assert answer(target) == [7.0]
        lower = requests.get(
            status.scoring_uri.replace("/invocations", "/ping"),
            headers={"authorization": f"bearer {secret}"},
            timeout=PATIENCE,
        )
        assert lower.status_code == 200
        for headers in ({}, {"Authorization": "Bearer guess"}, {"Authorization": secret}):
            for path in ("/invocations", "/ping", "/-/status", "/-/reload", "/docs"):
                url = status.scoring_uri.replace("/invocations", path)
                assert requests.post(url, headers=headers, timeout=PATIENCE).status_code == 401
        reply = requests.get(
            status.scoring_uri.replace("/invocations", "/ping"),
            headers={"Authorization": f"Bearer {secret}"},
            timeout=PATIENCE,
        )
        assert (reply.status_code, reply.headers["x-mlflow-model-version"]) == (200, "7")

        server = psutil.Process(pid(target, "blue"))
        assert "DEPLOYMENT_TOKEN" not in server.environ()
        assert not any(secret in part for process in processes(target.directory) for part in process.cmdline())
        written = [path.read_bytes() for path in target.directory.rglob("*") if path.is_file()]
        assert written
        assert not any(secret.encode() in content for content in written)
        assert secret not in caplog.text

        monkeypatch.delenv("DEPLOYMENT_TOKEN")
        with pytest.raises(DeploymentError, match="was deployed with a token, not this one"):
            LocalTarget("numbers", directory=target.directory).status()
        os.kill(pid(target), signal.SIGKILL)
        wait_until(lambda: holder(target.directory, "proxy") is None)
        with pytest.raises(DeploymentError, match="was deployed with a token: set it in DEPLOYMENT_TOKEN"):
            LocalTarget("numbers", directory=target.directory).start()


@pytest.mark.parametrize(
    ("model_uri", "canary", "message"),
    [
        ("models:/numbers@nobody", 100, r"^model_uri=models:/numbers@nobody cannot be found: .*nobody"),
        ("models:/absent/1", 100, r"^model_uri=models:/absent/1 cannot be downloaded: .*absent"),
        ("runs:/1/model", 100, r"^model_uri='runs:/1/model': expected models:/name@alias or models:/name/version$"),
        ("models:/numbers/2", 0, r"^canary=0: expected a percentage from 1 to 100$"),
    ],
)
def test_bad_parameters(live: Any, model_uri: str, canary: int, message: str) -> None:
    with pytest.raises(DeploymentError, match=message) as caught:
        live.deploy(model_uri, canary=canary)
    assert "\n" not in str(caught.value)
    assert len(processes(live.directory)) == 2


def test_an_endpoint_is_not_confused_with_another(live: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere: list[dict[str, Any]] = [{"port": 1}, {"host": "0.0.0.0"}]
    for options in elsewhere:
        with pytest.raises(DeploymentError, match=r"numbers is deployed on 127\.0\.0\.1"):
            LocalTarget("numbers", directory=live.directory, **options).deploy("models:/numbers/2")
    with pytest.raises(DeploymentError, match=r"name=letters: in .* numbers is deployed"):
        LocalTarget("letters", directory=live.directory).undeploy()
    with pytest.raises(DeploymentError, match="letters is not deployed in"):
        LocalTarget("letters", directory=tmp_path).rollback()
    monkeypatch.setenv("DEPLOYMENT_TOKEN", "t")
    with pytest.raises(DeploymentError, match="was deployed without a token: undeploy it before you set one"):
        LocalTarget("numbers", directory=live.directory).deploy("models:/numbers/2")


def test_a_canary_gets_exactly_its_share(tmp_path: Path) -> None:
    async def choose() -> None:
        servers = {colour: processes_module.Server(colour, "", "", colour, "", []) for colour in ("blue", "green")}
        proxy = local_proxy.Proxy(tmp_path, None)
        proxy.state = processes_module.State("n", "", 0, False, servers, {"blue": 90, "green": 10}, fallback="blue")
        async with aiohttp.ClientSession() as session:
            blue, green = (local_proxy.Backend(colour, server, session) for colour, server in servers.items())
            proxy.backends = {"blue": blue, "green": green}
            assert proxy.choose() is None
            blue.ready = green.ready = True
            chosen = [proxy.choose() for _ in range(200)]
            assert [chosen[start : start + 10].count(green) for start in range(0, 200, 10)] == [1] * 20
            blue.ready = False
            assert {proxy.choose() for _ in range(20)} == {green}

    asyncio.run(choose())


def recorder_of(target: Any) -> psutil.Process:
    """The process that writes the recording of an endpoint, once there is one."""

    def found() -> psutil.Process | None:
        children = running(psutil.Process(pid(target)).children())
        return next((each for each in children if "recorder.py" in " ".join(each.cmdline())), None)

    recorder = wait_until(found)
    assert recorder
    return recorder


def ask(target: Any, body: str, kind: str = "application/json", identifier: str = "") -> requests.Response:
    headers = {"Content-Type": kind} | ({"x-request-id": identifier} if identifier else {})
    return requests.post(target.status().scoring_uri, data=body, headers=headers, timeout=PATIENCE)


def test_what_is_recorded_is_what_was_sent_and_answered(models: dict[str, str], tmp_path: Path) -> None:
    """Over every form, two versions, a killed recorder and a disk that takes no more: no request is lost."""
    recording = processes_module.Recording(str(tmp_path / "records"), 1.0, ["email"], 90)
    rows = [{"x": 1.5}, {"x": 2.25}]
    forms = [
        (json.dumps({"dataframe_split": {"columns": ["x"], "data": [[1.5], [2.25]]}}), "application/json"),
        (json.dumps({"dataframe_records": [{**row, "email": "a@b.c"} for row in rows]}), "application/json"),
        (json.dumps({"instances": rows}), "application/json"),
        (json.dumps({"inputs": rows}), "application/json"),
        (json.dumps({"inputs": {"x": [1.5, 2.25]}}), "application/json; charset=utf-8"),
        ("x\n1.5\n2.25\n", "text/csv"),
    ]
    with local_target(tmp_path / "numbers", recording=recording) as target:
        target.deploy("models:/numbers/1")
        replies = [ask(target, *form, identifier=f"form {number}") for number, form in enumerate(forms)]
        assert [reply.status_code for reply in replies] == [200] * len(forms)
        assert [reply.headers["x-request-id"] for reply in replies] == [f"form {n}" for n in range(len(forms))]
        assert ask(target, "{}").status_code == 400  # not recorded
        target.recording = None  # a later deploy that says nothing of it
        target.deploy("models:/numbers/2")
        assert len(ask(target, forms[0][0]).headers["x-request-id"]) == 32
        wait_until(lambda: target.status().recording == f"recording to {recording.record}: {len(forms) + 1} requests")
        found = recorded_rows(recording, "numbers")
        assert [json.loads(each) for each in found.loc[found["version"] == "1", "inputs"]][:10] == rows * 5
        assert [json.loads(each) for each in found["inputs"][10:12]] == [{"x": "1.5"}, {"x": "2.25"}]  # CSV is text
        assert found["output"].map(json.loads).tolist() == [1.0] * 12 + [2.0] * 2
        assert (found["model"] == "numbers").all()

        with load(target, 300) as counts:
            recorder_of(target).kill()
            wait_until(lambda: "not recorded: the recorder" in target.status().recording)
            recorder_of(target).rlimit(psutil.RLIMIT_FSIZE, (10, 10))
            target.rollback()
        assert {key for key in counts if key.startswith(("lost", "mixed"))} == set(), counts
        wait_until(lambda: "File too large" in target.status().recording)
        record = Path(recording.record)
        assert all(path.stat().st_mode & 0o077 == 0 for path in record.rglob("*"))
        assert not list(record.rglob("*.part"))

        target.recording = processes_module.Recording("", 1.0, [], 90)
        target.deploy("models:/numbers/1")
        assert target.status().recording == ""
    wait_until(lambda: not any("recorder.py" in " ".join(each.info["cmdline"] or []) for each in mine(tmp_path)))


def mine(folder: Path) -> list[psutil.Process]:
    return [each for each in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(each.info["cmdline"] or [])]


def recorded_rows(recording: Any, endpoint: str) -> pd.DataFrame:
    """All rows of a recording, the oldest first."""
    files = (Path(recording.record) / endpoint).glob("date=*/*.parquet")
    found = pd.concat([pd.read_parquet(file, partitioning=None) for file in files])
    return found.sort_values(["time", "row"], ignore_index=True)


def test_a_recorder_that_is_behind_or_gone_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module_of_feed: Any = module("registry_deploy", "recording")
    monkeypatch.setattr(module_of_feed, "MAX_WAITING", 100_000)
    monkeypatch.setattr(module_of_feed, "PATIENCE", 0.1)

    async def flood() -> Any:
        feed = module_of_feed.Feed(processes_module.Recording(str(tmp_path), 1.0, [], 90), "churn")
        message = ("m", "1", "application/json", b"x" * 10_000, b"{}")
        feed.add("0", *message)  # it has not started yet
        while feed.process is None:
            await asyncio.sleep(0.01)
        os.kill(feed.process.pid, signal.SIGSTOP)
        for number in range(100):
            feed.add(str(number), *message)
        feed.process.kill()
        await feed.process.wait()
        while feed.lost.total() < 101:
            await asyncio.sleep(0.01)
        await feed.close()
        return feed

    lost = asyncio.run(flood()).lost
    assert lost["the recorder was not running"] == 1
    assert 80 < lost["the recorder was behind"] < 95
    assert lost["the recorder was behind"] + lost["the recorder ended"] == 100
