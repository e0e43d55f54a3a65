// An HTTP sink on Node's http2 (nghttp2). One line of output per request: session, version, id.
// What it does depends on the id of the event and on the options, a JSON object:
//   port; tls: {key, cert}; h1: no HTTP/2; settings; hold: answers wait until so many are under way;
//   goawayEvery: a session says GOAWAY after so many requests; openAfter: milliseconds, then windows open
import fs from "node:fs";
import http2 from "node:http2";
import https from "node:https";

const options = JSON.parse(process.argv[2]);
let sessions = 0;
let held = [];
const counts = new WeakMap();

function answer(request, response, id) {
  if (id.startsWith("stall")) return;
  if (id.startsWith("reset")) return request.stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
  const [, status, wait] = id.match(/^(\d{3})-(\d+)/) ?? [];
  if (status) response.setHeader("retry-after", wait);
  response.writeHead(Number(status ?? 202));
  response.end(status ? `why ${status}` : undefined);
}

function onRequest(request, response) {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("error", () => {});
  request.on("end", () => {
    const { id } = JSON.parse(Buffer.concat(chunks));
    const session = request.stream?.session ?? request.socket;
    const { number, seen } = counts.get(session) ?? { number: ++sessions, seen: 0 };
    fs.writeSync(1, `${number} ${request.httpVersion} ${id} ${Buffer.concat(chunks).length}\n`);
    counts.set(session, { number, seen: seen + 1 });
    if (options.hold) {
      held.push(() => answer(request, response, id));
      if (held.length < options.hold) return;
      options.hold = 0;
      held.forEach((each) => each());
    } else {
      answer(request, response, id);
    }
    if (options.goawayEvery && seen + 1 === options.goawayEvery) session.close();
  });
}

const files = Object.fromEntries(
  Object.entries(options.tls ?? {}).map(([name, path]) => [name, fs.readFileSync(path)]),
);
const settings = options.settings ?? {};
const server = options.h1
  ? https.createServer(files, onRequest)
  : options.tls
    ? http2.createSecureServer({ ...files, settings, allowHTTP1: true }, onRequest)
    : http2.createServer({ settings }, onRequest);
server.on("session", (session) => {
  if (options.openAfter) {
    const open = () => session.destroyed || session.settings({ initialWindowSize: 65535 });
    setTimeout(open, options.openAfter);
  }
});
server.listen(options.port, "127.0.0.1");
