"""`python -m logitkit` is the command `logitkit`."""

from .cli import main

if __name__ == "__main__":
    main()
