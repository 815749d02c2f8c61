"""`python -m livebackend.cli`, for use without the installed script."""

from livebackend.cli import main

# The worker processes of `serve` import this module too.
if __name__ == "__main__":
    main(prog_name="livebackend")
