#!/bin/sh
# After the files are gone. deb: $1 is remove, purge or upgrade. rpm: $1 is how many versions stay.
set -e
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
fi
if [ "$1" = purge ]; then
  rm -rf /etc/holdfast
  if [ -d /var/lib/holdfast ]; then
    echo "holdfast: /var/lib/holdfast stays: it has this agent's keys and its copy of the configuration"
  fi
fi
