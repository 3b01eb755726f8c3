"""`python -m sft_app`."""

from sft_app.cli import main

if __name__ == "__main__":
    main()
