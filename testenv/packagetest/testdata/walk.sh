# Run by systemd in a container: what an administrator does with the package. Each line must succeed.
set -eu
cd /opt
read_value() { curl --noproxy '*' -sf "http://127.0.0.1:2770/v1/config/$1/$2?raw"; }

dpkg -i old.deb
test "$(systemctl is-active holdfast)" = inactive # nobody said that it may begin a cluster
test "$(stat -c '%U %a' /var/lib/holdfast)" = 'holdfast 750'
test "$(stat -c '%G %a' /etc/holdfast/holdfast.env)" = 'holdfast 640'
man -w holdfast-set >/dev/null 2>&1 || test -e /usr/share/man/man1/holdfast-set.1.gz
systemd-analyze verify holdfast.service

mkdir /etc/holdfast/schemas
echo '{"type":"object","properties":{"port":{"type":"integer","default":8080}}}' >/etc/holdfast/schemas/web.json
echo 'CONFIG_SCHEMA_DIR=/etc/holdfast/schemas' >>/etc/holdfast/holdfast.env
systemctl enable --now holdfast
systemctl is-active holdfast
test "$(read_value web port)" = 8080
main() { systemctl show -P MainPID holdfast; }
test "$(ps -o user= -p "$(main)")" = holdfast
export CONFIG_DATA_DIR=/var/lib/holdfast CONFIG_ENV_FILE=/var/lib/holdfast/.env
holdfast --env-file /var/lib/holdfast/.env set web port=9000 --reason 'first change'
test "$(read_value web port)" = 9000
systemd-analyze security --threshold=30 holdfast.service >/dev/null

# An upgrade beside the running agent: the settings, the keys and the values stay.
before=$(main)
dpkg -i --force-confold new.deb
systemctl is-active holdfast
test "$(main)" != "$before"
holdfast version | grep -F 'holdfast v9.8.8 '
grep -q CONFIG_SCHEMA_DIR /etc/holdfast/holdfast.env
test "$(read_value web port)" = 9000

# A crash: systemd starts it again, and it serves what it had.
kill -KILL "$(main)"
until [ "$(systemctl is-active holdfast)" = active ] && [ "$(read_value web port)" = 9000 ]; do sleep 0.1; done

dpkg -r holdfast
test "$(systemctl is-active holdfast || :)" != active
test -e /etc/holdfast/holdfast.env
test -e /var/lib/holdfast/config.lkg.json
dpkg -P holdfast
test ! -e /etc/holdfast
test -e /var/lib/holdfast/config.lkg.json # what it holds is not the package's

# The data is there for the next installation.
dpkg -i new.deb
systemctl start holdfast
test "$(read_value web port)" = 9000
systemctl stop holdfast
echo 'the walk is complete'
