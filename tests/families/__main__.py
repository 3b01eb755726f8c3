"""`python -m tests.families [FAMILY ...]`."""

import sys

from tests.families.report import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
