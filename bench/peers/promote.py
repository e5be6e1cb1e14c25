"""Measure how long MLServer and MLflow take to swap the XGBoost files that ``bench.promote`` swaps.

Each is installed as in its documentation, into its own environment in a temporary folder (about two minutes and 2 GB),
and gets 50 requests a second. MLServer loads the other file by a call of its repository interface. MLflow's server has
one model only, so it is stopped and started again. Measured are the time from the command to the first answer from the
other file, and the number of requests that failed in that time.
"""

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xgboost

from bench.harness import Figure
from bench.installation import free_port
from shared.runtime.process import ONE_THREAD

RATE = 50.0
PATIENCE_S = 90.0
MLSERVER = ("mlserver", "mlserver-xgboost", "xgboost-cpu", "uvloop<0.22")  # newer ones end its workers
MLFLOW = ("mlflow", "xgboost-cpu")
ROWS = 1


class Answer(NamedTuple):
    """One request: when it was answered (s), and with what; None where it failed."""

    at: float
    value: tuple[float, ...] | None


class Client:
    """Asks ``path`` 50 times a second on one kept connection, in a thread, until stopped."""

    def __init__(self, port: int, path: str, body: object, read: Callable[[bytes], list[float]]) -> None:
        self.port, self.path, self.read = port, path, read
        self.body = json.dumps(body)
        self.answers: list[Answer] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def once(self) -> tuple[float, ...]:
        """One answer; raises where there is none."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            return self._one(connection)
        finally:
            connection.close()

    def other_than(self, value: tuple[float, ...], since: float) -> float:
        """When the first answer came after ``since`` that is another than ``value``."""
        seen, deadline = len(self.answers), time.perf_counter() + PATIENCE_S
        while time.perf_counter() < deadline:
            for answer in self.answers[seen:]:
                seen += 1
                if answer.at > since and answer.value not in {None, value}:
                    return answer.at
            time.sleep(0.001)
        raise TimeoutError(f"no answer of the other model within {PATIENCE_S:.0f} s")

    def _ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        begun, number = time.perf_counter(), 0
        while not self._stop.is_set():
            number = max(number + 1, int((time.perf_counter() - begun) * RATE))
            time.sleep(max(begun + number / RATE - time.perf_counter(), 0))
            value = None
            try:
                value = self._one(connection)
            except (OSError, http.client.HTTPException, ValueError):
                connection.close()
            self.answers.append(Answer(time.perf_counter(), value))
        connection.close()

    def _one(self, connection: http.client.HTTPConnection) -> tuple[float, ...]:
        connection.request("POST", self.path, self.body, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        data = reply.read()
        if reply.status != 200:
            raise ValueError(f"{reply.status}: {data[:500]!r}")
        return tuple(self.read(data))


def environment(folder: Path, packages: Sequence[str]) -> Path:
    """A virtual environment with these packages; the folder of its programs."""
    if not (folder / "bin" / "pip").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", *packages]
        subprocess.run(pip, check=True, stderr=subprocess.DEVNULL)
    return folder / "bin"


def peers(files: tuple[Path, Path], folder: Path) -> dict[str, Figure]:
    """Figures of both; what does not install or start is left out, and said."""
    figures: dict[str, Figure] = {}
    for name, measure, packages in (("mlserver", mlserver, MLSERVER), ("mlflow", mlflow, MLFLOW)):
        try:
            programs = environment(folder / f"{name}-environment", packages)
            took, failed, asked = measure(programs, files, folder / name)
        except (OSError, subprocess.CalledProcessError, TimeoutError, ValueError) as error:
            print(f"{name} was left out: {type(error).__name__}: {error}"[:500])
            continue
        against = f"{len(took)} changes, {asked} requests"
        figures[f"{name}_first_answer_p50"] = Figure(1000 * float(np.median(took)), "ms", "", against)
        figures[f"{name}_first_answer_worst"] = Figure(1000 * max(took), "ms", "", against)
        figures[f"{name}_failed"] = Figure(failed, "requests", "", against)
    return figures


Measured = tuple[list[float], int, int]
"""Seconds of each change, requests that failed, requests in all."""


def mlserver(programs: Path, files: tuple[Path, Path], folder: Path, changes: int = 20) -> Measured:
    """Both files in one repository; its settings name the one to load."""
    port = free_port()
    model = folder / "m"
    model.mkdir(parents=True)
    _serve(model, files[0])
    ports = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
    (folder / "settings.json").write_text(json.dumps({**ports, "host": "127.0.0.1"}))
    row = _row(files[0])
    body = {"inputs": [{"name": "x", "shape": [ROWS, len(row)], "datatype": "FP32", "data": row}]}
    client = Client(port, "/v2/models/m/infer", body, lambda data: json.loads(data)["outputs"][0]["data"])
    server = _start([str(programs / "mlserver"), "start", str(folder)], folder)
    took = []
    try:
        before = _first(client, server)
        client.start()
        for number in range(1, changes + 1):
            time.sleep(0.3)
            _serve(model, files[number % 2])
            begun = time.perf_counter()
            _post(port, "/v2/repository/models/m/load")
            took.append(client.other_than(before, begun) - begun)
            before = client.answers[-1].value or client.once()
        client.stop()
    finally:
        _end(server)
    return took, sum(answer.value is None for answer in client.answers), len(client.answers)


def mlflow(programs: Path, files: tuple[Path, Path], folder: Path, changes: int = 3) -> Measured:
    """One server a file, on one port, one after the other."""
    port = free_port()
    folder.mkdir(parents=True)
    models = [folder / f"model-{number}" for number in range(2)]
    for model, file in zip(models, files, strict=True):
        save = (
            "import mlflow.xgboost, xgboost, sys; b = xgboost.Booster(); b.load_model(sys.argv[1]); "
            "mlflow.xgboost.save_model(b, sys.argv[2])"
        )
        subprocess.run([str(programs / "python"), "-c", save, str(file), str(model)], check=True, capture_output=True)
    row = _row(files[0])
    client = Client(port, "/invocations", {"inputs": [row]}, lambda data: json.loads(data)["predictions"][0])
    words = [str(programs / "mlflow"), "models", "serve", "--env-manager", "local", "-p", str(port), "-m"]
    environ = {"PATH": f"{programs}:{os.environ['PATH']}"}
    server = _start([*words, str(models[0])], folder, environ)
    took = []
    try:
        before = _first(client, server)
        client.start()
        for number in range(1, changes + 1):
            time.sleep(1)
            begun = time.perf_counter()
            _end(server)
            server = _start([*words, str(models[number % 2])], folder, environ)
            took.append(client.other_than(before, begun) - begun)
            before = client.once()
        client.stop()
    finally:
        _end(server)
    return took, sum(answer.value is None for answer in client.answers), len(client.answers)


def _serve(model: Path, file: Path) -> None:
    settings = {
        "name": "m",
        "implementation": "mlserver_xgboost.XGBoostModel",
        "parameters": {"uri": str(file)},
    }
    (model / "model-settings.json").write_text(json.dumps(settings))


def _row(file: Path) -> list[float]:
    """A row to ask about."""
    width = xgboost.Booster(model_file=str(file)).num_features()
    return [float(value) for value in np.random.default_rng(7).standard_normal(width).astype(np.float32)]


def _first(client: Client, server: "subprocess.Popen[bytes]") -> tuple[float, ...]:
    deadline = time.perf_counter() + PATIENCE_S
    while time.perf_counter() < deadline and server.poll() is None:
        with suppress(OSError, http.client.HTTPException, ValueError):
            return client.once()
        time.sleep(0.1)
    raise TimeoutError(f"it did not answer: {server.args!r}")


def _post(port: int, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    connection.request("POST", path, "{}", {"Content-Type": "application/json"})
    reply = connection.getresponse()
    if reply.status != 200:
        raise ValueError(f"{path}: {reply.status} {reply.read()[:300]!r}")
    reply.read()
    connection.close()


def _start(words: list[str], folder: Path, environ: dict[str, str] | None = None) -> "subprocess.Popen[bytes]":
    with (folder / "server.log").open("ab") as output:
        return subprocess.Popen(
            words,
            cwd=folder,
            env={**os.environ, **ONE_THREAD, **(environ or {})},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _end(server: "subprocess.Popen[bytes]") -> None:
    """Ends the server with all its processes: they are a session of their own."""
    with suppress(ProcessLookupError):
        os.killpg(server.pid, 15)
    try:
        server.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, 9)
        server.wait()
