"""A program that knows nothing of Holdfast: it reads its environment when it starts."""

import os
import signal
import sys

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
name, rounds = os.environ["NAME"], int(os.environ.get("ROUNDS", "1"))
print("hello", *[name] * rounds, flush=True)
while True:
    signal.pause()
