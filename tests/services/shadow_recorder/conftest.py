"""The world that the recorder's tests share, importable by its file's name."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
