"""The Jobs API: one-time runs, jobs and their runs, each task of which is really run on this machine."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

from faults import Faults
from runner import Ended, Runner
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from task_check import check_tasks, condition_holds, fill_in

from answers import Refusal, fields, required

LOG_SHOWN = 5 * 1024 * 1024  # bytes of a log that runs/get-output gives


class Jobs:
    """Jobs and runs. A job, its runs and their tasks have numbers of their own, out of one sequence.

    How a run ended is kept in `jobs/<run id>/run.json`, the log of a task in `jobs/<its run id>/log.txt`.

    folder: the workspace's.
    url, token: how a task reaches the workspace.
    """

    def __init__(self, folder: Path, url: str, token: str, faults: Faults) -> None:
        self.folder = folder / "jobs"
        self.url = url
        self.runner = Runner(folder, url, token, faults)
        self._lock = threading.Lock()
        self._runs: dict[int, dict[str, Any]] = {}
        self._jobs: dict[int, dict[str, Any]] = {}
        self._tokens: dict[str, int] = {}
        for path in self.folder.glob("*/job.json"):
            self._jobs[int(path.parent.name)] = json.loads(path.read_text(encoding="utf-8"))
        for path in self.folder.glob("*/run.json"):
            run = json.loads(path.read_text(encoding="utf-8"))
            self._runs[run["run_id"]] = run
            if "result_state" not in run["state"]:
                for task in run["tasks"]:
                    _settle(task, Ended("INTERNAL_ERROR", "FAILED", "The workspace ended while the job ran."))
                self._end(run, "INTERNAL_ERROR", "FAILED", "The workspace ended while the job ran.")

    # Jobs that are kept.

    async def create(self, request: Request) -> Response:
        """POST jobs/create."""
        settings = await fields(request)
        check_tasks(settings)
        with self._lock:
            job_id = self._new_number()
            self._jobs[job_id] = {"job_id": job_id, "settings": settings, "creator_user_name": "you@example.test"}
            _write(self.folder / str(job_id) / "job.json", self._jobs[job_id])
        return JSONResponse({"job_id": job_id})

    async def get_job(self, request: Request) -> Response:
        """GET jobs/get."""
        return JSONResponse(self._job((await fields(request)).get("job_id")))

    async def run_now(self, request: Request) -> Response:
        """POST jobs/run-now: a run of a job, whose parameters win over the job's defaults."""
        given = await fields(request)
        job = self._job(given.get("job_id"))
        settings = job["settings"]
        parameters = {each["name"]: each.get("default", "") for each in settings.get("parameters") or []}
        for name, value in (given.get("job_parameters") or {}).items():
            if name not in parameters:
                raise Refusal("INVALID_PARAMETER_VALUE", f"Job parameter '{name}' is not defined for the job.")
            parameters[name] = value
        return self._begin({**settings, "run_name": settings.get("name")}, job["job_id"], parameters, "JOB_RUN", given)

    # Runs.

    async def submit(self, request: Request) -> Response:
        """POST jobs/runs/submit: check the description, begin, answer at once with the number of the run."""
        settings = await fields(request)
        if "tasks" not in settings:  # the form of Jobs 2.0, which MLflow's own backend sends
            settings = {**settings, "tasks": [{**settings, "task_key": "main"}]}
        check_tasks(settings)
        return self._begin(settings, None, {}, "SUBMIT_RUN", settings)

    async def get(self, request: Request) -> Response:
        """GET jobs/runs/get."""
        return JSONResponse(self._found(await fields(request)))

    async def output(self, request: Request) -> Response:
        """GET jobs/runs/get-output: the end of a task's log, and why it failed, if it did."""
        number = _number((await fields(request)).get("run_id"))
        if number in self._runs:
            right = "Please retrieve the output of each individual task run instead."
            raise Refusal("INVALID_PARAMETER_VALUE", f"Retrieving the output of a job run is not supported. {right}")
        task = self._task(number)
        log = self.log_path(number).read_bytes() if self.log_path(number).exists() else b""
        found: dict[str, Any] = {"metadata": task, "logs": log[-LOG_SHOWN:].decode(errors="replace")}
        found["logs_truncated"] = len(log) > LOG_SHOWN
        if task["state"].get("result_state") == "FAILED":
            found["error"] = task["state"]["state_message"]
        return JSONResponse(found)

    async def cancel(self, request: Request) -> Response:
        """POST jobs/runs/cancel: end a run with all its processes; one that has ended stays as it is."""
        run = self._found(await fields(request))
        threading.Thread(target=self._cancel, args=(run, "Run cancelled."), daemon=True).start()
        return JSONResponse({})

    async def show(self, request: Request) -> Response:
        """GET jobs/runs/list: the last one first."""
        return JSONResponse({"runs": self.all(), "has_more": False})

    async def log(self, request: Request) -> Response:
        """GET /local/runs/<run id>/log: the logs of all tasks of a run, one after the other; not of Databricks."""
        run = self._found({"run_id": request.path_params["run_id"]})
        paths = [self.log_path(task["run_id"]) for task in run["tasks"]]
        return PlainTextResponse("".join(path.read_text(errors="replace") for path in paths if path.exists()))

    def routes(self) -> list[Route]:
        api = "/api/{version:str}/jobs"
        return [
            Route(f"{api}/create", self.create, methods=["POST"]),
            Route(f"{api}/get", self.get_job),
            Route(f"{api}/run-now", self.run_now, methods=["POST"]),
            Route(f"{api}/runs/submit", self.submit, methods=["POST"]),
            Route(f"{api}/runs/get", self.get),
            Route(f"{api}/runs/get-output", self.output),
            Route(f"{api}/runs/cancel", self.cancel, methods=["POST"]),
            Route(f"{api}/runs/list", self.show),
            Route("/local/runs/{run_id}/log", self.log),
        ]

    # What the rest of the workspace asks.

    def all(self) -> list[dict[str, Any]]:
        """Every run, the last one first."""
        return [self._runs[run_id] for run_id in sorted(self._runs, reverse=True)]

    def log_path(self, run_id: int) -> Path:
        """The log of a task."""
        return self.folder / str(run_id) / "log.txt"

    def stop(self) -> None:
        """End every run, before the workspace itself ends."""
        for run in self.all():
            if "result_state" not in run["state"]:
                self._cancel(run, "Run cancelled: the workspace was stopped.")

    # A run's life.

    def _begin(
        self, settings: dict[str, Any], job_id: int | None, parameters: dict[str, str], kind: str, given: dict[str, Any]
    ) -> Response:
        token = given.get("idempotency_token")
        with self._lock:
            if token in self._tokens:
                return JSONResponse({"run_id": self._tokens[token]})
            run_id = self._new_number()
            run: dict[str, Any] = {
                "job_id": job_id or self._new_number(),
                "run_id": run_id,
                "run_name": settings.get("run_name") or "Untitled",
                "run_type": kind,
                "creator_user_name": "you@example.test",
                "start_time": _milliseconds(),
                "state": {"life_cycle_state": "PENDING", "state_message": "Waiting for cluster"},
                "run_page_url": f"{self.url}/#run-{run_id}",
                "job_parameters": [{"name": name, "value": value} for name, value in parameters.items()],
                "tasks": [],
            }
            self._runs[run_id] = run
            for task in settings["tasks"]:
                number = self._new_number()
                state = {"life_cycle_state": "BLOCKED", "state_message": ""}
                run["tasks"].append({**task, "run_id": number, "state": state, "run_page_url": run["run_page_url"]})
            if token:
                self._tokens[token] = run_id
            self._save(run)
        threading.Thread(target=self._guarded, args=(run, settings, parameters), daemon=True).start()
        return JSONResponse({"run_id": run_id})

    def _guarded(self, run: dict[str, Any], settings: dict[str, Any], parameters: dict[str, str]) -> None:
        """Run the tasks; a fault of this workspace itself ends the run with what it says."""
        try:
            self._work(run, settings, parameters)
        except Exception as error:  # otherwise a client would wait for ever
            self._end(run, "INTERNAL_ERROR", "FAILED", f"A fault of the local workspace: {error!r}")

    def _work(self, run: dict[str, Any], settings: dict[str, Any], parameters: dict[str, str]) -> None:
        """Run the tasks one after the other, each after those that it depends on, and keep how each ended."""
        deadline = time.monotonic() + (settings.get("timeout_seconds") or 10**9)
        ended: dict[str, Ended] = {}
        while waiting := [task for task in run["tasks"] if task["task_key"] not in ended]:
            task = next(each for each in waiting if all(on["task_key"] in ended for on in each.get("depends_on") or []))
            known = {"job.id": str(run["job_id"]), "job.run_id": str(run["run_id"])}
            known |= {f"job.parameters.{name}": str(value) for name, value in parameters.items()}
            filled = fill_in(task, known)
            if not _may_run(filled, ended):
                how = Ended("SKIPPED", "EXCLUDED", "")
            elif "condition_task" in filled:
                how = Ended("TERMINATED", "SUCCESS", "", str(condition_holds(filled["condition_task"])).lower())
            else:
                self._set(run, "RUNNING", "In run")
                task["state"] = {"life_cycle_state": "RUNNING", "state_message": "In run"}
                how = self.runner.run(filled, settings, self.log_path(task["run_id"]), deadline)
            ended[task["task_key"]] = how
            with self._lock:
                _settle(task, how)
                self._save(run)
        failed = [how for how in ended.values() if how.result not in ("SUCCESS", "EXCLUDED")]
        if failed:
            self._end(run, failed[0].life_cycle, failed[0].result, failed[0].message)
        else:
            self._end(run, "TERMINATED", "SUCCESS", "")

    def _cancel(self, run: dict[str, Any], message: str) -> None:
        with self._lock:
            for task in run["tasks"]:
                _settle(task, Ended("TERMINATED", "CANCELED", message))
        self._end(run, "TERMINATED", "CANCELED", message)
        for task in run["tasks"]:
            self.runner.stop(self.log_path(task["run_id"]))

    def _set(self, run: dict[str, Any], life_cycle: str, message: str) -> None:
        with self._lock:
            if "result_state" not in run["state"]:
                run["state"] = {"life_cycle_state": life_cycle, "state_message": message}
                self._save(run)

    def _end(self, run: dict[str, Any], life_cycle: str, result: str, message: str) -> None:
        with self._lock:
            if "result_state" not in run["state"]:
                run["end_time"] = _milliseconds()
                run["state"] = {"life_cycle_state": life_cycle, "result_state": result, "state_message": message}
                self._save(run)

    def _save(self, run: dict[str, Any]) -> None:
        _write(self.folder / str(run["run_id"]) / "run.json", run)

    def _new_number(self) -> int:
        used = [int(path.name) for path in self.folder.iterdir() if path.name.isdecimal()]
        number = max(used, default=0) + 1
        (self.folder / str(number)).mkdir()
        return number

    def _job(self, job_id: Any) -> dict[str, Any]:
        if _number(job_id, "job_id") not in self._jobs:
            raise Refusal("INVALID_PARAMETER_VALUE", f"Job {job_id} does not exist.")
        return self._jobs[int(job_id)]

    def _found(self, given: dict[str, Any]) -> dict[str, Any]:
        """A run of a job; Databricks refuses one that is not there as an invalid value."""
        number = _number(given.get("run_id"))
        if number not in self._runs:
            raise Refusal("INVALID_PARAMETER_VALUE", f"Run {number} does not exist.")
        return self._runs[number]

    def _task(self, number: int) -> dict[str, Any]:
        for run in self._runs.values():
            for task in run["tasks"]:
                if task["run_id"] == number:
                    return task
        raise Refusal("INVALID_PARAMETER_VALUE", f"Run {number} does not exist.")


def _may_run(task: dict[str, Any], ended: dict[str, Ended]) -> bool:
    """Whether all that a task depends on ended well, a condition with the outcome that is asked for."""
    for on in task.get("depends_on") or []:
        how = ended[on["task_key"]]
        if how.result != "SUCCESS" or on.get("outcome", how.outcome) != how.outcome:
            return False
    return True


def _settle(task: dict[str, Any], how: Ended) -> None:
    """Note how a task ended, unless that was noted before."""
    if "result_state" not in task["state"]:
        state = {"life_cycle_state": how.life_cycle, "result_state": how.result, "state_message": how.message}
        task["state"] = state


def _number(given: Any, name: str = "run_id") -> int:
    required({name: given}, name)
    if not str(given).isdecimal():
        raise Refusal("INVALID_PARAMETER_VALUE", f"{name} must be a number: {given}")
    return int(given)


def _write(path: Path, said: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(said, indent=2), encoding="utf-8")
    new.replace(path)


def _milliseconds() -> int:
    return round(time.time() * 1000)
