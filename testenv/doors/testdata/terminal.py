"""Runs a command on a terminal of its own, as a shell does. USR1 types Ctrl-C, USR2 Ctrl-Z; TERM goes to the command."""

import os
import pty
import signal
import sys
import termios
import threading

pid, fd = pty.fork()
if pid == 0:
    # The session leader stays the shell: the command is a job in a group of its own.
    job = os.fork()
    if job == 0:
        os.setpgid(0, 0)
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        os.tcsetpgrp(0, os.getpid())
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        os.execv(sys.argv[1], sys.argv[1:])
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(job, signal.SIGTERM))
    while True:
        try:
            _, status = os.waitpid(job, os.WUNTRACED)
        except InterruptedError:
            continue
        if os.WIFSTOPPED(status):
            front = os.tcgetpgrp(0)
            os.write(1, b"stopped\n" if front == job else b"stopped, and the terminal is not the job's\n")
            os.kill(-job, signal.SIGCONT)
            os.write(1, b"continued\n")
            continue
        os.write(1, b"echo on\n" if termios.tcgetattr(0)[3] & termios.ECHO else b"echo off\n")
        os._exit(os.waitstatus_to_exitcode(status))
signal.signal(signal.SIGUSR1, lambda *_: os.write(fd, b"\x03"))
signal.signal(signal.SIGUSR2, lambda *_: os.write(fd, b"\x1a"))
signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGTERM))


def copy():
    while True:
        try:
            text = os.read(fd, 4096)
        except OSError:
            return
        if not text:
            return
        os.write(1, text.replace(b"\r\n", b"\n"))


reader = threading.Thread(target=copy)
reader.start()
_, status = os.waitpid(pid, 0)
reader.join()
os._exit(os.waitstatus_to_exitcode(status))
