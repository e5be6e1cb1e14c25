"""What a training process may take, as the kernel sees it."""

import json
import os
import subprocess
import sys

import pytest

LOOK = """
import json, os, resource
from services.trainer.isolation import isolate
isolate(512)
ioprio = {"x86_64": 252, "aarch64": 31}[os.uname().machine]
print(json.dumps({
    "nice": os.getpriority(os.PRIO_PROCESS, 0),
    "scheduler": os.sched_getscheduler(0),
    "disk": __import__("ctypes").CDLL(None).syscall(ioprio, 1, 0) >> 13,
    "data": resource.getrlimit(resource.RLIMIT_DATA)[0],
}))
try:
    bytearray(2**30)
except MemoryError:
    print('"refused"')
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the classes are Linux's")
def test_a_training_process_is_idle_to_processor_and_disk_and_is_refused_more_memory() -> None:
    said = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True).stdout
    found, memory = (json.loads(line) for line in said.splitlines())
    assert found == {"nice": 19, "scheduler": os.SCHED_IDLE, "disk": 3, "data": 512 * 2**20}
    assert memory == "refused"
