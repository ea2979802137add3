"""What holdfast exec runs: it prints what it has and what it is told, with the number of signals."""

import os
import signal
import subprocess
import sys

say = lambda *words: os.write(1, (" ".join(str(w) for w in words) + "\n").encode())
counts = {}


def told(number, _):
    name = signal.Signals(number).name
    counts[name] = counts.get(name, 0) + 1
    say("got", name, counts[name])


def end(*_):
    say("bye", os.environ.get("VAD_THRESHOLD"))
    os._exit(int(sys.argv[2]) if len(sys.argv) > 2 else 0)


mode = sys.argv[1]
for s in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGWINCH, signal.SIGURG):
    signal.signal(s, told)
signal.signal(signal.SIGTERM, signal.SIG_IGN if mode == "stubborn" else end)
if mode == "family":  # a process of the group that does not end at TERM
    member = subprocess.Popen([sys.executable, "-c", "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: time.sleep(60)"])
    say("member", member.pid)
if mode == "orphans":  # their parents end at once, so that process 1 gets them
    for _ in range(5):
        subprocess.run(["sh", "-c", "sleep 0.01 & exit 0"])
if mode == "alone":  # the first of its group ends, the other one does not
    member = subprocess.Popen([sys.executable, "-c", "import time\nwhile True: time.sleep(60)"])
    say("member", member.pid)
    os._exit(int(sys.argv[2]))
say("start", os.environ.get("VAD_THRESHOLD"), "model", os.environ.get("WHISPER_MODEL"), "home", os.environ.get("HOME"), "pid", os.getpid())
while True:
    signal.pause()
