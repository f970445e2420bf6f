"""End a command of this folder on one clear line: what was wrong on stderr, and exit code 2."""

from __future__ import annotations

import sys
from typing import NoReturn

import click


def run_command(command: click.Command) -> NoReturn:
    """Run a click command and exit with what it returns, or with 0 where it returns nothing.

    A mistake of the user (click.ClickException) is one line on stderr and exit code 2; Ctrl-C is exit code 130.
    """
    try:
        sys.exit(command.main(standalone_mode=False) or 0)
    except click.ClickException as error:
        click.echo(f"Error: {' '.join(error.format_message().split())}", err=True)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        sys.exit(130)
