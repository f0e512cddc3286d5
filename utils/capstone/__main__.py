"""What `score` starts: `python -m utils.capstone FILE` prints what it found as JSON, a
line for each step."""

import sys

from utils.capstone.process import main

if __name__ == "__main__":
    main(sys.argv[1])
