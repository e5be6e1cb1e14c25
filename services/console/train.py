"""``conclave train``: models from bars of files, here; and models from recorded streams, by the trainer."""

import click

from services.console.reproducing import verify
from services.console.retraining import request, status, watch
from services.console.sweeping import sweep
from services.console.training import train_files


@click.group()
def train() -> None:
    """Train models: on files in this process, or by the trainer on what was recorded."""


for command in (train_files, request, status, watch, verify, sweep):
    train.add_command(command)
