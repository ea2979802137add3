#!/usr/bin/env python3
"""A service that takes its configuration from MQTT and trusts nobody on the way.

Needs python3-paho-mqtt and python3-cryptography. It accepts an update only when a
leader of the cluster signed exactly these bytes, for this service, and when it is
not older than what it has had. Settings: MQTT_URL, CONFIG_SERVICE_NAME, TRUST_FILE
(the public keys, PEM), STATE_FILE (remembers epoch and time of the newest update
across restarts; remove it when the store was restored).
"""

import base64
import datetime
import hashlib
import os
import re
import sys
import urllib.parse

import paho.mqtt.client as mqtt
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_public_key

# The one form of a message, byte for byte. "config" is in RFC 8785 form already;
# parsing and printing it again would make other bytes, so it is taken as it stands.
FORM = re.compile(
    rb'\{"version":1,"service":"([a-z][a-z0-9-]*)","config":(\{.*\}),"checksum":"([0-9a-f]{64})"'
    rb',"config_epoch":"([A-Za-z0-9-]+)","issued_at":"([0-9T:.+-]+)"'
    rb',"signature":"([A-Za-z0-9+/]{85}[AQgw]==)"\}',
    re.DOTALL,
)


class Refused(Exception):
    """Why an update is not accepted."""


class Receiver:
    """Verifies updates of one service and remembers the newest of them."""

    def __init__(self, service, trust, state_file):
        self.service, self.trust, self.state_file = service, trust, state_file
        self.epoch = self.issued_at = ""
        self.started = False  # whether there is a configuration since the start
        if os.path.exists(state_file):
            with open(state_file, encoding="ascii") as file:
                self.epoch, self.issued_at = file.read().split()

    def signed(self, signature, signed):
        """Whether one of the trusted keys signed it; while keys are rotated there are two."""
        with open(self.trust, "rb") as file:
            blocks = re.findall(b"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", file.read(), re.DOTALL)
        for key in map(load_pem_public_key, blocks):
            try:
                key.verify(signature, signed)
                return True
            except InvalidSignature:
                pass
        return False

    def remember(self):
        with open(self.state_file + ".tmp", "w", encoding="ascii") as file:
            file.write(f"{self.epoch} {self.issued_at}\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(self.state_file + ".tmp", self.state_file)

    def receive(self, message):
        """The text of the new configuration, or None when it is the present one."""
        parts = FORM.fullmatch(message)
        if not parts:
            raise Refused("malformed")
        service, config, checksum, epoch, issued_at, signature = parts.groups()
        if service.decode() != self.service:
            raise Refused("service")
        if hashlib.sha256(config).hexdigest().encode() != checksum:
            raise Refused("checksum")
        if not self.signed(base64.b64decode(signature), b"|".join((b"1", service, config, checksum, epoch, issued_at))):
            raise Refused("signature")

        # From here on a leader said it. Is it also for now? Times of this form order
        # as text. Only signed words count: config-version, the MQTT 5 property, is
        # whatever the broker makes of it.
        epoch, issued_at = epoch.decode(), issued_at.decode()
        if self.epoch not in ("", epoch):
            raise Refused("epoch")
        soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=5)
        if issued_at > soon.isoformat(timespec="seconds"):
            raise Refused("future")
        if issued_at < self.issued_at:
            raise Refused("older")
        if issued_at == self.issued_at and self.started:
            return None
        self.epoch, self.issued_at, self.started = epoch, issued_at, True
        self.remember()
        return config


def main():
    url = urllib.parse.urlsplit(os.environ.get("MQTT_URL", "mqtt://127.0.0.1:1883"))
    service = os.environ.get("CONFIG_SERVICE_NAME", "stt-worker")
    receiver = Receiver(service, os.environ["TRUST_FILE"], os.environ["STATE_FILE"])

    def on_message(_client, _userdata, message):
        try:
            config = receiver.receive(message.payload)
        except Refused as reason:
            print(f"refused: {reason}", flush=True)
            return
        if config is not None:
            # json.loads(config) is what a service goes on with.
            print(f"accepted {service} {receiver.issued_at} {config.decode()}", flush=True)

    version1 = [mqtt.CallbackAPIVersion.VERSION1] if hasattr(mqtt, "CallbackAPIVersion") else []  # paho 2
    client = mqtt.Client(*version1)
    client.on_connect = lambda client, *_: client.subscribe(f"system/config/{service}", qos=1)
    client.on_message = on_message
    client.reconnect_delay_set(1, 2)
    if url.username:
        client.username_pw_set(urllib.parse.unquote(url.username), urllib.parse.unquote(url.password or ""))
    if url.scheme == "mqtts":
        client.tls_set()
    client.connect_async(url.hostname, url.port or (8883 if url.scheme == "mqtts" else 1883))
    client.loop_forever(retry_first_connection=True)


if __name__ == "__main__":
    sys.exit(main())
