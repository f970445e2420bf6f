"""The Jobs API: one-time runs, jobs and their runs, each task of which is really run on this machine."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

from runner import CANCELED, Runner, state
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from task_check import check_tasks, condition_holds, fill_in

from answers import Fields, Refusal, api, required

LOG_SHOWN = 5 * 1024 * 1024  # bytes of a log that runs/get-output gives
USER = "you@example.test"
RUNNING = {"life_cycle_state": "RUNNING", "state_message": "In run"}
STOPPED = state("TERMINATED", "CANCELED", "Run cancelled: the workspace was stopped.")


class Jobs:
    """Jobs and runs. A job, its runs and their tasks have numbers of their own, out of one sequence.

    Each is kept in `jobs/<number>/`: job.json, run.json, or the log.txt of a task.

    folder: the workspace's.
    url, token: how a task reaches the workspace.
    """

    def __init__(self, folder: Path, url: str, token: str) -> None:
        self.folder = folder / "jobs"
        self.url = url
        self.runner = Runner(folder, url, token)
        self._lock = threading.RLock()
        self._jobs, self._runs = self._kept("job"), self._kept("run")
        self._tokens: dict[str, int] = {}
        for run in self._runs.values():
            self._end(run, state("INTERNAL_ERROR", "FAILED", "The workspace ended while the job ran."))

    def create(self, settings: Fields) -> Fields:
        """POST jobs/create."""
        check_tasks(settings)
        job_id = self._new_number()
        self._save("job", {"job_id": job_id, "settings": settings})
        return {"job_id": job_id}

    def get_job(self, given: Fields) -> Fields:
        """GET jobs/get."""
        return self._found(self._jobs, given, "job_id")

    def reset(self, given: Fields) -> None:
        """POST jobs/reset: new settings for a job that is there."""
        job, settings = self.get_job(given), required(given, "new_settings")
        check_tasks(settings)
        self._save("job", {**job, "settings": settings})

    def delete(self, given: Fields) -> None:
        """POST jobs/delete; its runs stay."""
        job_id = self.get_job(given)["job_id"]
        del self._jobs[job_id]
        (self.folder / str(job_id) / "job.json").unlink()

    def run_now(self, given: Fields) -> Fields:
        """POST jobs/run-now: a run of a job, whose parameters win over the job's defaults."""
        job = self.get_job(given)
        settings = job["settings"]
        parameters = {each["name"]: each.get("default", "") for each in settings.get("parameters") or []}
        for name in given.get("job_parameters") or {}:
            if name not in parameters:
                raise Refusal(f"Job parameter '{name}' is not defined for the job.")
        parameters |= given.get("job_parameters") or {}
        token = given.get("idempotency_token")
        return self._begin(
            {**settings, "run_name": settings.get("name"), "idempotency_token": token}, job["job_id"], parameters
        )

    def submit(self, settings: Fields) -> Fields:
        """POST jobs/runs/submit: check the description, begin, answer at once with the number of the run."""
        if "tasks" not in settings:  # the form of Jobs 2.0, which MLflow's own backend sends
            settings = {**settings, "tasks": [{**settings, "task_key": "main"}]}
        check_tasks(settings)
        return self._begin(settings, None, {})

    def get(self, given: Fields) -> Fields:
        """GET jobs/runs/get."""
        return self._found(self._runs, given, "run_id")

    def output(self, given: Fields) -> Fields:
        """GET jobs/runs/get-output: the end of a task's log, and why it failed, if it did."""
        if str(given.get("run_id")) in map(str, self._runs):
            right = "Please retrieve the output of each individual task run instead."
            raise Refusal(f"Retrieving the output of a job run is not supported. {right}")
        task = self._found({task["run_id"]: task for run in self.all() for task in run["tasks"]}, given, "run_id")
        log = self._log(task)
        found: Fields = {"metadata": task, "logs": log[-LOG_SHOWN:].decode(errors="replace")}
        found["logs_truncated"] = len(log) > LOG_SHOWN
        if task["state"].get("result_state") == "FAILED":
            found["error"] = task["state"]["state_message"]
        return found

    def cancel(self, given: Fields) -> None:
        """POST jobs/runs/cancel: end a run with all its processes; one that has ended stays as it is."""
        threading.Thread(target=self._cancel, args=(self.get(given), CANCELED), daemon=True).start()

    async def log(self, request: Request) -> Response:
        """GET /local/runs/<run id>/log: the logs of all tasks of a run, one after the other; not of Databricks."""
        tasks = self.get(request.path_params)["tasks"]
        return PlainTextResponse(b"".join(map(self._log, tasks)).decode(errors="replace"))

    def routes(self) -> list[Route]:
        jobs = "/api/{version:str}/jobs"
        return [
            api("POST", f"{jobs}/create", self.create),
            api("GET", f"{jobs}/get", self.get_job),
            api("POST", f"{jobs}/reset", self.reset),
            api("POST", f"{jobs}/delete", self.delete),
            api("POST", f"{jobs}/run-now", self.run_now),
            api("POST", f"{jobs}/runs/submit", self.submit),
            api("GET", f"{jobs}/runs/get", self.get),
            api("GET", f"{jobs}/runs/get-output", self.output),
            api("POST", f"{jobs}/runs/cancel", self.cancel),
            api("GET", f"{jobs}/runs/list", lambda given: {"runs": self.all(), "has_more": False}),
            Route("/local/runs/{run_id}/log", self.log),
        ]

    def all(self) -> list[Fields]:
        """Every run, the last one first."""
        return [self._runs[run_id] for run_id in sorted(self._runs, reverse=True)]

    def stop(self) -> None:
        """End every run, before the workspace itself ends."""
        for run in self.all():
            if "result_state" not in run["state"]:
                self._cancel(run, STOPPED)

    def _begin(self, settings: Fields, job_id: int | None, parameters: dict[str, str]) -> Fields:
        token = settings.get("idempotency_token")
        with self._lock:
            if token in self._tokens:
                return {"run_id": self._tokens[token]}
            run_id = self._new_number()
            page, waiting = f"{self.url}/#run-{run_id}", {"life_cycle_state": "BLOCKED", "state_message": ""}
            tasks = [{**task, "run_id": self._new_number(), "state": waiting} for task in settings["tasks"]]
            run: Fields = {
                "job_id": job_id or self._new_number(),
                "run_id": run_id,
                "run_name": settings.get("run_name") or "Untitled",
                "start_time": _milliseconds(),
                "state": {"life_cycle_state": "PENDING", "state_message": "Waiting for cluster"},
                "run_page_url": page,
                "tasks": tasks,
            }
            if token:
                self._tokens[token] = run_id
            self._save("run", run)
        threading.Thread(target=self._work, args=(run, settings, parameters), daemon=True).start()
        return {"run_id": run_id}

    def _work(self, run: Fields, settings: Fields, parameters: dict[str, str]) -> None:
        """Run the tasks one after the other; a fault of this workspace itself ends the run with what it says."""
        deadline = time.monotonic() + (settings.get("timeout_seconds") or 10**9)
        known = {"job.id": str(run["job_id"]), "job.run_id": str(run["run_id"])}
        known |= {f"job.parameters.{name}": str(value) for name, value in parameters.items()}
        ended: dict[str, tuple[str, str]] = {}  # result and, of a condition, outcome
        try:
            for task in run["tasks"]:  # those that a task depends on stand before it
                filled, outcome = fill_in(task, known), ""
                if not _may_run(filled, ended):
                    how = state("SKIPPED", "EXCLUDED")
                elif condition := filled.get("condition_task"):
                    how, outcome = state("TERMINATED", "SUCCESS"), str(condition_holds(condition)).lower()
                else:
                    self._note(RUNNING, run, task)
                    how = self.runner.run(filled, settings, parameters, self._log_path(task), deadline)
                ended[task["task_key"]] = how["result_state"], outcome
                self._note(how, task)
            states = [task["state"] for task in run["tasks"]]
            failed = [each for each in states if each["result_state"] not in ("SUCCESS", "EXCLUDED")]
            self._end(run, failed[0] if failed else state("TERMINATED", "SUCCESS"))
        except Exception as error:  # otherwise a client would wait for ever
            self._end(run, state("INTERNAL_ERROR", "FAILED", f"A fault of the local workspace: {error!r}"))

    def _cancel(self, run: Fields, how: Fields) -> None:
        for task in run["tasks"]:
            self.runner.stop(self._log_path(task))
        self._end(run, how)

    def _end(self, run: Fields, how: Fields) -> None:
        """Note how a run ended, and its tasks that have not, unless that was noted before."""
        with self._lock:
            if "result_state" not in run["state"]:
                run["end_time"] = _milliseconds()
            self._note(how, run, *run["tasks"])
            self._save("run", run)

    def _note(self, how: Fields, *those: Fields) -> None:
        """Note the state of a run or of tasks that have not ended."""
        with self._lock:
            for one in those:
                if "result_state" not in one["state"]:
                    one["state"] = how

    def _kept(self, kind: str) -> dict[int, Fields]:
        files = self.folder.glob(f"*/{kind}.json")
        return {int(path.parent.name): json.loads(path.read_text(encoding="utf-8")) for path in files}

    def _save(self, kind: str, said: Fields) -> None:
        number = said[f"{kind}_id"]
        (self._jobs if kind == "job" else self._runs)[number] = said
        file = self.folder / str(number) / f"{kind}.json"
        new = file.with_suffix(".new")
        new.write_text(json.dumps(said, indent=2), encoding="utf-8")
        new.replace(file)

    def _new_number(self) -> int:
        with self._lock:
            number = 1 + max((int(path.name) for path in self.folder.iterdir()), default=0)
            (self.folder / str(number)).mkdir()
        return number

    def _log_path(self, task: Fields) -> Path:
        return self.folder / str(task["run_id"]) / "log.txt"

    def _log(self, task: Fields) -> bytes:
        path = self._log_path(task)
        return path.read_bytes() if path.exists() else b""

    def _found(self, known: dict[int, Fields], given: Fields, name: str) -> Fields:
        """What a number names; Databricks refuses one that is not there as an invalid value."""
        number = str(required(given, name))
        if not number.isdecimal() or int(number) not in known:
            raise Refusal(f"{name.removesuffix('_id').capitalize()} {number} does not exist.")
        return known[int(number)]


def _may_run(task: Fields, ended: dict[str, tuple[str, str]]) -> bool:
    """Whether all that a task depends on ended well, a condition with the outcome that is asked for."""
    for on in task.get("depends_on") or []:
        result, outcome = ended[on["task_key"]]
        if result != "SUCCESS" or on.get("outcome", outcome) != outcome:
            return False
    return True


def _milliseconds() -> int:
    return round(time.time() * 1000)
