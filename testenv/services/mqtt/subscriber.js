#!/usr/bin/env node
// A service that takes its configuration from MQTT and trusts nobody on the way.
// Needs node-mqtt; a Node that is not Debian's finds Debian's packages with
// NODE_PATH=/usr/share/nodejs. It accepts an update only when a leader of the
// cluster signed exactly these bytes, for this service, and when it is not older
// than what it has had: the signed epoch and version order, the time only tells how
// fresh it is. Settings: MQTT_URL, CONFIG_SERVICE_NAME, TRUST_FILE (the public keys,
// PEM), STATE_FILE (remembers epoch, version, time and checksum of the newest update
// across restarts; with "EPOCH 0" the first update of that epoch is the next one).
'use strict';

const crypto = require('node:crypto');
const fs = require('node:fs');
const mqtt = require('mqtt');

// The one form of a message, byte for byte. "config" is in RFC 8785 form already;
// parsing and printing it again would make other bytes, so it is taken as it stands.
const FORM = new RegExp('^\\{"version":1,"service":"([a-z][a-z0-9-]*)","config":(\\{.*\\}),"checksum":"([0-9a-f]{64})"' +
  ',"config_epoch":"([A-Za-z0-9-]+)","issued_at":"([0-9T:.+-]+)","signature":"([A-Za-z0-9+/]{85}[AQgw]==)"\\}$', 's');

class Refused extends Error {}

// A Receiver verifies updates of one service and remembers the newest of them.
class Receiver {
  constructor(service, trust, stateFile) {
    Object.assign(this, { service, trust, stateFile, epoch: '', issuedAt: '', checksum: '' });
    this.version = 0n; // 0: no version was signed yet, and the time orders
    this.started = false; // whether there is a configuration since the start
    if (fs.existsSync(stateFile)) {
      const [epoch, version, issuedAt = '', checksum = ''] = fs.readFileSync(stateFile, 'ascii').trim().split(' ');
      Object.assign(this, { epoch, version: BigInt(version), issuedAt, checksum });
    }
  }

  // The trusted keys; while keys are rotated there are two.
  keys() {
    const blocks = fs.readFileSync(this.trust, 'ascii').match(/-----BEGIN PUBLIC KEY-----[^]*?-----END PUBLIC KEY-----/g);
    return (blocks || []).map((pem) => crypto.createPublicKey(pem));
  }

  signed(statement, signature) {
    return this.keys().some((key) => crypto.verify(null, statement, key, Buffer.from(signature, 'base64')));
  }

  // The version of an update, 0 when no leader signed that it is this one.
  signedVersion(properties, service, epoch, checksum) {
    const { 'config-version': version, 'version-signature': signature } = properties;
    if (typeof version !== 'string' || typeof signature !== 'string' || !/^[1-9][0-9]{0,17}$/.test(version)) return 0n;
    const statement = Buffer.from(['holdfast-version', service, epoch, version, checksum].join('|'));
    return this.signed(statement, signature) ? BigInt(version) : 0n;
  }

  remember() {
    const file = fs.openSync(`${this.stateFile}.tmp`, 'w');
    fs.writeSync(file, `${this.epoch} ${this.version} ${this.issuedAt} ${this.checksum}\n`);
    fs.fsyncSync(file);
    fs.closeSync(file);
    fs.renameSync(`${this.stateFile}.tmp`, this.stateFile);
  }

  // The text of the new configuration, or null when it is the present one.
  receive(message, properties) {
    // latin1 maps each byte to one character and back: nothing is repaired.
    const parts = FORM.exec(message.toString('latin1'));
    if (!parts) throw new Refused('malformed');
    const [service, config, checksum, epoch, issuedAt, signature] = parts.slice(1);
    if (service !== this.service) throw new Refused('service');
    const bytes = Buffer.from(config, 'latin1');
    if (crypto.createHash('sha256').update(bytes).digest('hex') !== checksum) throw new Refused('checksum');
    const signed = Buffer.from(['1', service, config, checksum, epoch, issuedAt].join('|'), 'latin1');
    if (!this.signed(signed, signature)) throw new Refused('signature');

    // From here on a leader said it. Is it also for now? Only signed words count:
    // the MQTT 5 properties are whatever the broker makes of them, and the version
    // among them has a signature of its own. Where no version was ever signed, as
    // with MQTT 3.1.1, the time orders. Times of this form order as text.
    if (this.epoch && epoch !== this.epoch) throw new Refused('epoch');
    let version = this.signedVersion(properties, service, epoch, checksum);
    const fresh = version > this.version || issuedAt > this.issuedAt;
    if (this.version) {
      if (!version) {
        if (checksum !== this.checksum) throw new Refused('version');
        version = this.version; // the document in use, without its version
      }
      if (version < this.version || (version === this.version && checksum !== this.checksum)) throw new Refused('older');
    } else {
      const soon = new Date(Date.now() + 5 * 60_000).toISOString().slice(0, 19) + '+00:00';
      if (!version && issuedAt > soon) throw new Refused('future');
      if (issuedAt < this.issuedAt) throw new Refused('older');
    }
    if (!fresh && this.started) return null;
    if (fresh) {
      Object.assign(this, { epoch, version, issuedAt, checksum });
      this.remember();
    }
    this.started = true;
    return bytes.toString('utf8');
  }
}

const {
  MQTT_URL: url = 'mqtt://127.0.0.1:1883',
  CONFIG_SERVICE_NAME: service = 'stt-worker',
  TRUST_FILE: trust,
  STATE_FILE: stateFile,
} = process.env;
const receiver = new Receiver(service, trust, stateFile);

const client = mqtt.connect(url, { protocolVersion: 5, resubscribe: false }); // the next line does
client.on('connect', () => client.subscribe(`system/config/${service}`, { qos: 1 }));
client.on('error', (err) => console.log(`broker: ${err.message}`));
client.on('message', (_topic, message, packet) => {
  try {
    const config = receiver.receive(message, packet.properties?.userProperties || {});
    if (config !== null) {
      // JSON.parse(config) is what a service goes on with.
      console.log(`accepted ${service} ${receiver.issuedAt} ${config}`);
    }
  } catch (err) {
    if (!(err instanceof Refused)) throw err;
    console.log(`refused: ${err.message}`);
  }
});
