"""`python -m dp_kafka`: the same commands as the installed `dp-kafka`."""

import sys

from dp_kafka.cli import main

if __name__ == "__main__":
    sys.exit(main())
