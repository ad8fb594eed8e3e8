"""`python -m rsecho`: the command, where its script is not on PATH."""

from rsecho.cli import main

if __name__ == "__main__":
    main()
