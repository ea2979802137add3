#!/usr/bin/env python3
"""A service that takes its configuration from MQTT and trusts nobody on the way.

Needs python3-paho-mqtt and python3-cryptography. It accepts an update only when a
leader of the cluster signed exactly these bytes, for this service, and when it is
not older than what it has had: the signed epoch and version order, the time only
tells how fresh it is. Settings: MQTT_URL, CONFIG_SERVICE_NAME, TRUST_FILE (the public
keys, PEM), STATE_FILE (remembers epoch, version, time and checksum of the newest
update across restarts; with "EPOCH 0" the first update of that epoch is the next one).
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
        self.epoch = self.issued_at = self.checksum = ""
        self.version = 0  # 0: no version was signed yet, and the time orders
        self.started = False  # whether there is a configuration since the start
        if os.path.exists(state_file):
            with open(state_file, encoding="ascii") as file:
                state = file.read().split()
            self.epoch, self.version = state[0], int(state[1])
            self.issued_at, self.checksum = state[2:] or ("", "")

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
            file.write(f"{self.epoch} {self.version} {self.issued_at} {self.checksum}\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(self.state_file + ".tmp", self.state_file)

    def signed_version(self, properties, service, epoch, checksum):
        """The version of an update, 0 when no leader signed that it is this one."""
        version = properties.get("config-version", "")
        if not re.fullmatch("[1-9][0-9]{0,17}", version):
            return 0
        try:
            signature = base64.b64decode(properties.get("version-signature", ""), validate=True)
        except ValueError:
            return 0
        statement = b"|".join((b"holdfast-version", service, epoch, version.encode(), checksum))
        return int(version) if self.signed(signature, statement) else 0

    def receive(self, message, properties):
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

        # From here on a leader said it. Is it also for now? Only signed words count:
        # the MQTT 5 properties are whatever the broker makes of them, and the version
        # among them has a signature of its own. Where no version was ever signed, as
        # with MQTT 3.1.1, the time orders. Times of this form order as text.
        version = self.signed_version(properties, service, epoch, checksum)
        epoch, checksum, issued_at = epoch.decode(), checksum.decode(), issued_at.decode()
        if self.epoch not in ("", epoch):
            raise Refused("epoch")
        if self.version:
            if not version:
                if checksum != self.checksum:
                    raise Refused("version")
                version = self.version  # the document in use, without its version
            if version < self.version or version == self.version and checksum != self.checksum:
                raise Refused("older")
            fresh = version > self.version or issued_at > self.issued_at
        else:
            soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=5)
            if not version and issued_at > soon.isoformat(timespec="seconds"):
                raise Refused("future")
            if issued_at < self.issued_at:
                raise Refused("older")
            fresh = bool(version) or issued_at > self.issued_at
        if not fresh and self.started:
            return None
        if fresh:
            self.epoch, self.version, self.issued_at, self.checksum = epoch, version, issued_at, checksum
            self.remember()
        self.started = True
        return config


def main():
    url = urllib.parse.urlsplit(os.environ.get("MQTT_URL", "mqtt://127.0.0.1:1883"))
    service = os.environ.get("CONFIG_SERVICE_NAME", "stt-worker")
    receiver = Receiver(service, os.environ["TRUST_FILE"], os.environ["STATE_FILE"])

    def on_message(_client, _userdata, message):
        try:
            properties = dict(getattr(message.properties, "UserProperty", ()))
            config = receiver.receive(message.payload, properties)
        except Refused as reason:
            print(f"refused: {reason}", flush=True)
            return
        if config is not None:
            # json.loads(config) is what a service goes on with.
            print(f"accepted {service} {receiver.issued_at} {config.decode()}", flush=True)

    version1 = [mqtt.CallbackAPIVersion.VERSION1] if hasattr(mqtt, "CallbackAPIVersion") else []  # paho 2
    client = mqtt.Client(*version1, protocol=mqtt.MQTTv5)
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
