"""`python -m penstock`: the command, where only its package is at hand, as in a job."""

from penstock.cli import main

if __name__ == "__main__":
    main()
