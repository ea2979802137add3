#!/usr/bin/env node
// A service that takes its configuration from the Holdfast agent beside it.
// No packages, Node 18 or later. It prints its configuration, waits for a
// change, and prints the new one. Settings: CONFIG_AGENT_URL,
// CONFIG_SERVICE_NAME, CONFIG_KEY (the key to print), EXIT_AFTER_CHANGES.
'use strict';

const {
  CONFIG_AGENT_URL: agent = 'http://127.0.0.1:2770',
  CONFIG_SERVICE_NAME: service = 'stt-worker',
  CONFIG_KEY: key = 'whisper_model',
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
  }
  process.exit(0);
}

main();
