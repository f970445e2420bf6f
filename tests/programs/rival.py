"""Wants to make a version the champion each time that a line comes; prints `won`, or why not."""

import importlib
import sys

import click

sys.path.insert(0, sys.argv[1])
versions = importlib.import_module("versions")
versions.LOCK_WAIT = 600  # however slow the machine is: who wins is asked, not how soon
name, version = sys.argv[2:]
versions.find_model(name)  # the first request is slower than the others
print("ready", flush=True)
for line in sys.stdin:
    try:
        versions.move_champion(name, version, judged_against=line.strip() or None, run_id="0" * 32)
        print("won", flush=True)
    except click.ClickException as error:
        print(error.message, flush=True)
