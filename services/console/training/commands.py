"""``conclave train``: models from bars of files, here; and models from recorded streams, by the trainer."""

import click

from services.console.training.files import train_files
from services.console.training.jobs import request, status, watch
from services.console.training.reproduce import verify
from services.console.training.sweep import sweep


@click.group()
def train() -> None:
    """Train models: on files in this process, or by the trainer on what was recorded."""


for command in (train_files, request, status, watch, verify, sweep):
    train.add_command(command)
