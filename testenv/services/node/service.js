#!/usr/bin/env node
// A service that takes its configuration from the Holdfast agent beside it.
// No packages, Node 18 or later. It prints its configuration, waits for a
// change, and prints the new one. With CONFIG_LOCAL_TOKEN_FILE, the agent's
// local-token file, it tells the agent what became of each version. Settings:
// CONFIG_AGENT_URL, CONFIG_SERVICE_NAME, CONFIG_KEY (the key to print), EXIT_AFTER_CHANGES.
'use strict';

const { readFileSync } = require('node:fs');

const {
  CONFIG_AGENT_URL: agent = 'http://127.0.0.1:2770',
  CONFIG_SERVICE_NAME: service = 'stt-worker',
  CONFIG_KEY: key = 'whisper_model',
  CONFIG_LOCAL_TOKEN_FILE: tokenFile = '',
  EXIT_AFTER_CHANGES: exitAfter = '0', // 0: never
} = process.env;

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

// The newest document and its ETag; waits while it is still the one of etag.
async function fetchConfig(etag) {
  const answer = await fetch(`${agent}/v1/config/${service}${etag ? '?wait=30s' : ''}`, {
    headers: etag ? { 'If-None-Match': etag } : {},
    signal: AbortSignal.timeout(60_000),
  });
  if (answer.status === 304) return {};
  if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
  return { document: await answer.json(), etag: answer.headers.get('ETag') };
}

// Tells the agent what became of a version. That it cannot is no fault of ours.
async function acknowledge({ version, config_epoch }, status, reason = '') {
  if (!tokenFile) return;
  try {
    const answer = await fetch(`${agent}/v1/ack/${service}`, {
      method: 'POST',
      headers: { 'X-Holdfast-Token': readFileSync(tokenFile, 'utf8').trim(), 'Content-Type': 'application/json' },
      body: JSON.stringify({ version, config_epoch, status, reason }),
      signal: AbortSignal.timeout(5_000),
    });
    if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
  } catch (err) {
    console.log(`acknowledge: ${err.message}`);
  }
}

async function main() {
  let last = { version: 0 };
  for (let changes = -1; exitAfter === '0' || changes < Number(exitAfter);) {
    let got;
    try {
      got = await fetchConfig(last.etag);
    } catch (err) { // the agent restarts: keep the configuration, try again
      console.log(`agent: ${err.message}`);
      await pause(500);
      continue;
    }
    if (!got.document) continue;
    const { config, metadata } = got.document;
    if (metadata.config_epoch === last.epoch && metadata.version <= last.version) {
      // An agent that has just started may answer from its last-known-good file
      // for a moment, which may be older than what we have.
      await pause(200);
      continue;
    }
    last = { etag: got.etag, epoch: metadata.config_epoch, version: metadata.version };
    changes++;
    console.log(`config ${key}=${config[key]} version=${last.version}`);
    if (key in config) await acknowledge(metadata, 'applied');
    else await acknowledge(metadata, 'rejected', `there is no ${key}`);
  }
  process.exit(0);
}

main();
