// A service that uses the client library. It ends at SIGTERM.
import { ConfigLibrary } from "./holdfast.mjs";

const library = new ConfigLibrary({ serviceName: "stt-worker", onProblem: (m) => console.log(`log ${m}`) });
const model = (config) => {
  if (config.vad_threshold > 0.9) throw new Error("vad_threshold: this service takes at most 0.9");
  return Object.freeze(config);
};
const show = (what, config) => {
  console.log(`${what} whisper_model=${config.whisper_model} vad=${config.vad_threshold}`);
  if (config.whisper_model === "raise") throw new Error("this service cannot load that model");
};

show("first", await library.getConfig(model));
library.subscribeUpdates(async (config) => show("update", config));
await new Promise((resolve) => process.once("SIGTERM", resolve));
const started = performance.now();
library.close();
process.on("exit", () => {
  const late = performance.now() - started > 10000 ? " late" : "";
  console.log(`closed${late} in force version=${library.version} rejected=${library.rejected?.version ?? 0} threads=[]`);
});
