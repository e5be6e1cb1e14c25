"""The booted machine that tests of systemd share, importable by its file's name."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
