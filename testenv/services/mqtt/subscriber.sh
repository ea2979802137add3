#!/bin/sh
# A service that takes its configuration from MQTT and trusts nobody on the way,
# with mosquitto_sub and openssl (3.0 or later). It accepts an update only when a
# leader of the cluster signed exactly these bytes, for this service, and when it
# is not older than what it has had: the signed epoch and version order, the time
# only tells how fresh it is. Settings: MQTT_URL, CONFIG_SERVICE_NAME, TRUST_FILE
# (the public keys, PEM, read for each message: while keys are rotated there are
# two), STATE_FILE (remembers epoch, version, time and checksum of the newest update
# across restarts; with "EPOCH 0" the first update of that epoch is the next one).
set -u
LC_ALL=C && export LC_ALL # sed and expr see bytes, not characters

url=${MQTT_URL:-mqtt://127.0.0.1:1883}
service=${CONFIG_SERVICE_NAME:-stt-worker}
trust=${TRUST_FILE:?set it to the file with the public key}
state=${STATE_FILE:?set it to a file to remember the newest update in}
tmp=$(mktemp -d) && trap 'rm -rf "$tmp"' EXIT && trap 'exit 1' INT TERM

# The one form of a message, byte for byte. "config" is in RFC 8785 form already;
# jq would print other bytes, so it is taken as it stands.
form='^\{"version":1,"service":"([a-z][a-z0-9-]*)","config":(\{.*\}),"checksum":"([0-9a-f]{64})"'
form=$form',"config_epoch":"([A-Za-z0-9-]+)","issued_at":"([0-9T:.+-]+)","signature":"([A-Za-z0-9+/]{85}[AQgw]==)"\}$'

part() { # one part of the message: its number in form, or several with words between
	printf '%s\n' "$message" | sed -En "s~$form~$1~p"
}

newer() { # times of this form order as text
	expr "x$1" \> "x$2" >/dev/null
}

# signed_by_one tries each key of the trust file on $tmp/signed and $tmp/signature.
signed_by_one() {
	rm -f "$tmp"/key.*
	awk -v to="$tmp/key." '/-----BEGIN/ {n++} n {print > (to n)}' "$trust"
	for key in "$tmp"/key.*; do
		openssl pkeyutl -verify -pubin -inkey "$key" -rawin -in "$tmp/signed" -sigfile "$tmp/signature" >/dev/null 2>&1 && return 0
	done
	return 1
}

property() { # the value of an MQTT 5 user property; a broker may send anything
	printf '%s\n' "$properties" | tr ' ' '\n' | sed -n "s/^$1://p" | head -n 1
}

# signed_version sets version to that of the update, 0 when no leader signed that it
# is this one.
signed_version() {
	version=$(property config-version)
	if ! expr "x$version" : 'x[1-9][0-9]\{0,17\}$' >/dev/null; then
		version=0
		return
	fi
	printf 'holdfast-version|%s|%s|%s|%s' "$service" "$epoch" "$version" "$checksum" >"$tmp/signed"
	property version-signature | openssl base64 -d -A >"$tmp/signature" 2>/dev/null && signed_by_one || version=0
}

# refusal sets reason, which is empty for an update to accept.
refusal() {
	checksum=$(part '\3') epoch=$(part '\4') issued=$(part '\5')
	config=$(part '\2') && printf '%s' "$config" >"$tmp/config"
	signed=$(part '1|\1|\2|\3|\4|\5') && printf '%s' "$signed" >"$tmp/signed"
	reason=
	if [ -z "$signed" ]; then
		reason=malformed
	elif [ "$(part '\1')" != "$service" ]; then
		reason=service
	elif [ "$(openssl dgst -sha256 -r "$tmp/config" | cut -d ' ' -f 1)" != "$checksum" ]; then
		reason=checksum
	elif ! part '\6' | openssl base64 -d -A >"$tmp/signature" || ! signed_by_one; then
		reason=signature
	elif [ -n "$now_epoch" ] && [ "$epoch" != "$now_epoch" ]; then
		reason=epoch
	else
		order
	fi
}

# order says whether what a leader said is also for now. Only signed words count: the
# MQTT 5 properties are whatever the broker makes of them, and the version among them
# has a signature of its own. Where no version was ever signed, as with MQTT 3.1.1, the
# time orders.
order() {
	signed_version
	fresh=
	if [ "$version" -gt "$now_version" ] || newer "$issued" "$now_issued"; then
		fresh=yes
	fi
	if [ "$now_version" -gt 0 ]; then
		if [ "$version" -eq 0 ]; then
			[ "$checksum" = "$now_checksum" ] || { reason=version && return; }
			version=$now_version # the document in use, without its version
		fi
		if [ "$version" -lt "$now_version" ] || { [ "$version" -eq "$now_version" ] && [ "$checksum" != "$now_checksum" ]; }; then
			reason=older
		fi
	elif [ "$version" -eq 0 ] && newer "$issued" "$(date -u -d "@$(($(date +%s) + 300))" +%Y-%m-%dT%H:%M:%S+00:00)"; then
		reason=future
	elif newer "$now_issued" "$issued"; then
		reason=older
	fi
	if [ -z "$reason" ] && [ -z "$fresh" ] && [ -n "$started" ]; then
		reason=same
	fi
}

now_epoch='' now_version=0 now_issued='' now_checksum='' started='' # started: there is a configuration since the start
if [ -e "$state" ]; then
	read -r now_epoch now_version now_issued now_checksum <"$state"
fi
tab=$(printf '\t')
# mosquitto_sub connects again by itself, but not the first time.
while :; do
	mosquitto_sub -V 5 -F '%P\t%p' -L "$url/system/config/$service" -q 1
	sleep 1
done | while IFS= read -r line; do
	properties=${line%%"$tab"*} message=${line#*"$tab"}
	refusal
	case $reason in
	same) continue ;;
	?*)
		echo "refused: $reason"
		continue
		;;
	esac
	started=yes
	if [ -n "$fresh" ]; then
		now_epoch=$epoch now_version=$version now_issued=$issued now_checksum=$checksum
		echo "$epoch $version $issued $checksum" >"$state.tmp" && sync "$state.tmp" && mv "$state.tmp" "$state" || exit 1
	fi
	printf 'accepted %s %s %s\n' "$service" "$now_issued" "$config"
done
