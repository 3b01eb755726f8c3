"""The page: `python app.py` at home, and the entry point of a Hugging Face Space."""

from sft_app.cli import main

if __name__ == "__main__":
    main(["ui"])
