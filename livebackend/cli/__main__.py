"""`python -m livebackend.cli`, for use without the installed script."""

from livebackend.cli import main

# The worker processes of `serve` also import this module, but must not run a command.
if __name__ == "__main__":
    main(prog_name="livebackend")
