// Node-RED's settings for the benchmark: no editor, one keep-alive agent with a bound, KafkaJS for a
// function node. `require` finds the packages by NODE_PATH.
const http = require("http");

// The "http request" node makes its agent without a bound, and Node-RED sends all that it has.
http.Agent.defaultMaxSockets = 64;

module.exports = {
  uiHost: "127.0.0.1",
  uiPort: Number(process.env.PEER_PORT),
  httpAdminRoot: false,
  flowFile: process.env.PEER_FLOWS,
  credentialSecret: false,
  functionGlobalContext: { kafkajs: require("kafkajs") },
  httpRequestTimeout: 120000,
  runtimeState: { enabled: false, ui: false },
  diagnostics: { enabled: false, ui: false },
  telemetry: { enabled: false, updateNotification: false },
  externalModules: { palette: { allowInstall: false }, modules: { allowInstall: false } },
  logging: { console: { level: "info", metrics: false, audit: false } },
};
