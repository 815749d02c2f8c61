"""`python -m livebackend.cli`, where no script is installed."""

from livebackend.cli import main

main(prog_name="livebackend")
