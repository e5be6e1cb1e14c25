"""``conclave train``: train models from files in this process, or models and stackers from recorded streams by the
trainer."""

import click

from services.console.training.files import train_files
from services.console.training.jobs import request, status, watch
from services.console.training.reproduce import verify
from services.console.training.stacker import stacker
from services.console.training.sweep import sweep


@click.group()
def train() -> None:
    """Train models: from files in this process, or from recorded bars by the trainer."""


for command in (train_files, request, stacker, status, watch, verify, sweep):
    train.add_command(command)
