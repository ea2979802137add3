#!/bin/sh
# After the files are there. deb: $1 is configure, $2 the version before. rpm: $1 is how many versions are there.
set -e
case "$1" in
abort-*) exit 0 ;;
esac
if ! getent passwd holdfast >/dev/null; then
  useradd --system --user-group --home-dir /var/lib/holdfast --no-create-home --shell /usr/sbin/nologin \
    --comment "Holdfast configuration agent" holdfast
fi
install -d -o holdfast -g holdfast -m 0750 /var/lib/holdfast
chown root:holdfast /etc/holdfast /etc/holdfast/holdfast.env
chmod 0750 /etc/holdfast
chmod 0640 /etc/holdfast/holdfast.env
upgrade=no
if [ "$1" = configure ]; then
  if [ -n "$2" ]; then upgrade=yes; fi
elif [ "$1" -gt 1 ] 2>/dev/null; then
  upgrade=yes
fi
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  if [ $upgrade = yes ]; then
    systemctl try-restart holdfast.service # its services read on: from it again within a second
  fi
fi
if [ $upgrade = no ]; then
  # It is not started: an agent without CONFIG_JOIN begins a cluster of its own.
  echo "holdfast: set /etc/holdfast/holdfast.env, then: systemctl enable --now holdfast"
fi
