#!/bin/sh
# Before the files go. deb: $1 is remove or upgrade. rpm: $1 is how many versions stay.
set -e
if [ "$1" = remove ] || [ "$1" = 0 ]; then
  if [ -d /run/systemd/system ]; then
    systemctl disable --now holdfast.service || true
  fi
fi
