#!/usr/bin/env python3
"""A service that takes its configuration from the Holdfast agent beside it.

Standard library only. It prints its configuration, waits for a change, and
prints the new one. With CONFIG_LOCAL_TOKEN_FILE, the agent's local-token file, it
tells the agent what became of each version. Settings: CONFIG_AGENT_URL,
CONFIG_SERVICE_NAME, CONFIG_KEY (the key to print), EXIT_AFTER_CHANGES.
"""

import json
import os
import time
import urllib.error
import urllib.request

AGENT = os.environ.get("CONFIG_AGENT_URL", "http://127.0.0.1:2770")
SERVICE = os.environ.get("CONFIG_SERVICE_NAME", "stt-worker")
KEY = os.environ.get("CONFIG_KEY", "whisper_model")
TOKEN_FILE = os.environ.get("CONFIG_LOCAL_TOKEN_FILE", "")
EXIT_AFTER = int(os.environ.get("EXIT_AFTER_CHANGES", "0"))  # 0: never


# The agent is on this machine: no http_proxy of the environment is asked for it.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def fetch(etag):
    """The newest document and its ETag; waits while it is still the one of etag."""
    request = urllib.request.Request(f"{AGENT}/v1/config/{SERVICE}")
    if etag:
        request.full_url += "?wait=30s"
        request.add_header("If-None-Match", etag)
    try:
        with OPENER.open(request, timeout=60) as answer:
            return json.load(answer), answer.headers["ETag"]
    except urllib.error.HTTPError as err:
        if err.code == 304:
            return None, etag
        raise


def acknowledge(meta, status, reason=""):
    """Tells the agent what became of a version. That it cannot is no fault of ours."""
    if not TOKEN_FILE:
        return
    try:
        with open(TOKEN_FILE, encoding="utf-8") as file:
            token = file.read().strip()
        word = {"version": meta["version"], "config_epoch": meta["config_epoch"], "status": status, "reason": reason}
        request = urllib.request.Request(f"{AGENT}/v1/ack/{SERVICE}", data=json.dumps(word).encode())
        request.add_header("X-Holdfast-Token", token)
        request.add_header("Content-Type", "application/json")
        OPENER.open(request, timeout=5).close()
    except OSError as err:
        print(f"acknowledge: {err}", flush=True)


def main():
    etag, epoch, version, changes = None, None, 0, -1
    while EXIT_AFTER == 0 or changes < EXIT_AFTER:
        try:
            document, etag_now = fetch(etag)
        except OSError as err:  # the agent restarts: keep the configuration, try again
            print(f"agent: {err}", flush=True)
            time.sleep(0.5)
            continue
        if document is None:
            continue
        meta = document["metadata"]
        if meta["config_epoch"] == epoch and meta["version"] <= version:
            # An agent that has just started may answer from its last-known-good
            # file for a moment, which may be older than what we have.
            time.sleep(0.2)
            continue
        etag, epoch, version, changes = etag_now, meta["config_epoch"], meta["version"], changes + 1
        print(f"config {KEY}={document['config'].get(KEY)} version={version}", flush=True)
        if KEY in document["config"]:
            acknowledge(meta, "applied")
        else:
            acknowledge(meta, "rejected", f"there is no {KEY}")


if __name__ == "__main__":
    main()
