"""What a child of a supervisor is to the kernel."""

import os
import subprocess
import sys

import pytest

LOOK = """
import os
from shared.runtime.process import die_with_parent
die_with_parent(os.getppid())
print(os.getpgid(0) == os.getpid(), os.getsid(0))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs prctl")
def test_a_child_has_its_parents_session_and_a_process_group_of_its_own() -> None:
    """Priorities count within a session; a Ctrl-C reaches a process group."""
    said = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["True", str(os.getsid(0))]
