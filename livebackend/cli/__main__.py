"""`python -m livebackend.cli`, where no script is installed."""

from livebackend.cli import main

# A worker of `serve` imports this file again.
if __name__ == "__main__":
    main(prog_name="livebackend")
