#!/bin/sh
# A service that takes its configuration from the Holdfast agent beside it, with
# nothing but sh and curl. It prints its configuration, waits for a change, and
# prints the new one. With CONFIG_LOCAL_TOKEN_FILE, the agent's local-token file, it
# tells the agent that it has applied a version. Settings: CONFIG_AGENT_URL,
# CONFIG_SERVICE_NAME, CONFIG_KEY (the key to print), EXIT_AFTER_CHANGES.
set -u

url=${CONFIG_AGENT_URL:-http://127.0.0.1:2770}/v1/config/${CONFIG_SERVICE_NAME:-stt-worker}/${CONFIG_KEY:-whisper_model}
exit_after=${EXIT_AFTER_CHANGES:-0} # 0: never
tmp=$(mktemp -d) && trap 'rm -rf "$tmp"' EXIT && trap 'exit 1' INT TERM

header() { # the value of one header of the last answer
	tr -d '\r' <"$tmp/headers" | sed -n "s/^$1: //Ip"
}

etag= epoch= version=0 changes=-1
while [ "$exit_after" -eq 0 ] || [ "$changes" -lt "$exit_after" ]; do
	# ?raw answers with the bare value; ?wait lets the answer wait for a change.
	status=$(curl --noproxy '*' -sS -m 60 -H "If-None-Match: $etag" -D "$tmp/headers" -o "$tmp/value" \
		-w '%{http_code}' "$url?raw${etag:+&wait=30s}" 2>"$tmp/error")
	case $status in
	200) ;;
	304) continue ;;
	*) # the agent restarts: keep the configuration, try again
		echo "agent: $status $(cat "$tmp/error")"
		sleep 0.5
		continue
		;;
	esac
	now=$(header X-Config-Version)
	if [ "$(header X-Config-Epoch)" = "$epoch" ] && [ "$now" -le "$version" ]; then
		# An agent that has just started may answer from its last-known-good file
		# for a moment, which may be older than what we have.
		sleep 0.2
		continue
	fi
	etag=$(header ETag) epoch=$(header X-Config-Epoch) version=$now changes=$((changes + 1))
	echo "config ${CONFIG_KEY:-whisper_model}=$(cat "$tmp/value") version=$version"
	[ -n "${CONFIG_LOCAL_TOKEN_FILE:-}" ] || continue
	curl --noproxy '*' -sS -m 5 --fail -o "$tmp/ack" -H 'Content-Type: application/json' \
		-H "X-Holdfast-Token: $(cat "$CONFIG_LOCAL_TOKEN_FILE")" \
		-d "{\"version\": $version, \"config_epoch\": \"$epoch\", \"status\": \"applied\"}" \
		"${CONFIG_AGENT_URL:-http://127.0.0.1:2770}/v1/ack/${CONFIG_SERVICE_NAME:-stt-worker}" || echo "acknowledge: failed"
done
