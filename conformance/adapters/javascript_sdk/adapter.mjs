// Adapter for the official JavaScript SDK, the npm package `cloudevents`: one JSON object a line
// in, one out (docs/conformance/adapters.md).
//
// Each call is what a user would write, in the way that is kindest to the SDK: `toEvent` followed
// by `validate`, which `toEvent` leaves to its caller; text bodies as strings, others as bytes, as
// web frameworks hand them over; values that the SDK gives to a client are turned into what the
// client can send. JSON data goes in as a value and comes out as one.
import { isUtf8 } from "node:buffer";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import readline from "node:readline";
import * as sdk from "cloudevents";

const { CloudEvent, HTTP, Kafka, MQTT, MQTTMessageFactory } = sdk.default ?? sdk;
const require = createRequire(import.meta.url);
const { version } = JSON.parse(
  readFileSync(require.resolve("cloudevents").replace(/dist.*$/, "package.json")),
);

const STRUCTURED = "application/cloudevents+json";
const isJson = (contentType) => /^[^/;]+\/(?:[^/;]+\+)?json\s*(?:;|$)/i.test(contentType ?? "");
const isText = (contentType) =>
  isJson(contentType) || /^(?:text\/|[^/;]+\/(?:[^/;]+\+)?xml\s*(?:;|$))/i.test(contentType ?? "");
const charsetOf = (contentType) =>
  (/;\s*charset="?([^";]+)/i.exec(contentType ?? "")?.[1] ?? "utf-8").toLowerCase();
const ENCODINGS = { "utf-8": "utf8", "us-ascii": "utf8", "iso-8859-1": "latin1" };
const base64 = (bytes) => Buffer.from(bytes).toString("base64");

// ---- reading -----------------------------------------------------------------------------------

class Unsupported extends Error {}

function headersOf(binding, message) {
  const names = new Set(message.headers.map(([name]) => name.toLowerCase()));
  if (names.size < message.headers.length) {
    throw new Unsupported("a header that stands there twice: messages hold an object");
  }
  if (binding === "http" && !/^[!#$%&'*+.^_`|~0-9a-z-]*$/i.test([...names].join(""))) {
    throw new Unsupported("a name that no header has");
  }
  if (binding === "http" && message.headers.some(([, value]) => /[^\x00-\x7f]/.test(value))) {
    throw new Unsupported("bytes outside ASCII: the web framework says what they stand for");
  }
  // As node:http hands them over: names in lower case, values without the blanks around them.
  const ofNode = ([name, value]) => [name.toLowerCase(), value.replace(/^[ \t]+|[ \t]+$/g, "")];
  const headers = Object.fromEntries(
    binding === "http" ? message.headers.map(ofNode) : message.headers,
  );
  return message.content_type ? { ...headers, "content-type": message.content_type } : headers;
}

function bytesOf(message) {
  return message.payload === null ? null : Buffer.from(message.payload, "base64");
}

const READERS = {
  json: (message) =>
    HTTP.toEvent({ headers: { "content-type": STRUCTURED }, body: bytesOf(message)?.toString() }),
  http: (message) => {
    const body = bytesOf(message);
    if (!body?.length) return HTTP.toEvent({ headers: headersOf("http", message), body: undefined });
    const isUtf = ENCODINGS[charsetOf(message.content_type)] === "utf8" && isUtf8(body);
    const text = isText(message.content_type) && isUtf ? body.toString() : body;
    return HTTP.toEvent({ headers: headersOf("http", message), body: text });
  },
  kafka: (message) => {
    const value = bytesOf(message); // kafkajs has bytes for every value
    return Kafka.toEvent({ headers: headersOf("kafka", message), key: null, value, body: value });
  },
  mqtt: (message) => {
    const body = bytesOf(message); // and mqtt.js for every payload
    const content = message.content_type.startsWith(STRUCTURED) ? body?.toString() : body;
    const { "content-type": _, ...properties } = headersOf("mqtt", message);
    const contentType = message.content_type || undefined;
    return MQTT.toEvent(
      MQTTMessageFactory(contentType, properties, content?.length ? content : undefined),
      true,
    );
  },
};

const isBinary = ({ binding, message }) =>
  binding !== "json" && !message.content_type.toLowerCase().startsWith("application/cloudevents");

function read({ binding, message }) {
  const events = [READERS[binding](message)].flat();
  if (events.some((event) => event.specversion === "0.3")) {
    throw new Unsupported("specversion 0.3, which it reads as such");
  }
  for (const event of events) event.validate();
  return events;
}

// In binary mode the SDK parses JSON under two spellings of its content type, and leaves others.
function isLeftAsText(contentType, isBinaryMode) {
  if (!contentType) return isBinaryMode;
  if (!isJson(contentType)) return true;
  return isBinaryMode && !["application/json", "application/json; charset=utf-8"].includes(contentType);
}

function eventToJson(event, isBinaryMode) {
  const { data, data_base64: encoded, ...rest } = event;
  const attributes = {};
  for (const [name, value] of Object.entries(rest)) {
    if (value === undefined || value === null) continue;
    if (name === "time") attributes.time = { instant: value }; // one spelling, whatever it was
    else attributes[name] = ArrayBuffer.isView(value) ? { base64: base64(value) } : value;
  }
  // Structured mode: `data` may be an array of another width than bytes, `data_base64` says which.
  if (encoded !== undefined && encoded !== null) return { attributes, data: encoded };
  if (data === undefined) return { attributes, data: null };
  if (ArrayBuffer.isView(data)) return { attributes, data: base64(data) };
  if (typeof data === "string" && isLeftAsText(event.datacontenttype, isBinaryMode)) {
    // Text is held as text: whoever wants bytes takes the charset's.
    const encoding = ENCODINGS[charsetOf(event.datacontenttype)];
    if (!encoding) throw new Unsupported("a charset that Node.js has not");
    return { attributes, data: base64(Buffer.from(data, encoding)) };
  }
  return { attributes, json: data };
}

// ---- writing -----------------------------------------------------------------------------------

function dataOf(bytes, contentType, mode) {
  const encoding = ENCODINGS[charsetOf(contentType)];
  if (!isText(contentType) || !encoding) return bytes;
  // An envelope holds text, a payload the bytes of its charset.
  if (encoding === "latin1") return mode === "structured" ? bytes.toString("latin1") : bytes;
  if (!isUtf8(bytes)) return bytes;
  const text = bytes.toString();
  if (!isJson(contentType)) return text;
  try {
    return JSON.parse(text);
  } catch {
    return bytes; // no JSON, whatever its content type says
  }
}

function eventFromJson(form, mode) {
  const attributes = {};
  for (const [name, value] of Object.entries(form.attributes)) {
    attributes[name] = value?.base64 === undefined ? value : Buffer.from(value.base64, "base64");
  }
  if (!attributes.id || !attributes.specversion) {
    throw new Unsupported("an event without id or specversion: the constructor fills them in");
  }
  if (form.data === null) return new CloudEvent(attributes);
  const bytes = Buffer.from(form.data, "base64");
  attributes.data = dataOf(bytes, attributes.datacontenttype, mode);
  return new CloudEvent(attributes);
}

function sendable(body) {
  if (body === undefined) return null;
  if (ArrayBuffer.isView(body)) return base64(body);
  // Kafka and MQTT are given values as they are; a client takes only text and bytes.
  return base64(typeof body === "string" ? body : JSON.stringify(body));
}

function message(headers, body, contentType = headers["content-type"]) {
  const rest = Object.entries(headers).filter(
    ([name, value]) => name !== "content-type" && value !== undefined && value !== null,
  );
  return {
    payload: sendable(body),
    content_type: contentType ?? "",
    headers: rest.map(([name, value]) => [name, String(value)]),
  };
}

const WRITERS = {
  json: (event) => {
    const { headers, body } = HTTP.structured(event);
    return message(headers, body);
  },
  http: (event, mode) => {
    const { headers, body } = HTTP[mode](event);
    return message(headers, body);
  },
  kafka: (event, mode) => {
    const { headers, value } = Kafka[mode](event);
    return message(headers, value);
  },
  mqtt: (event, mode) => {
    const sent = MQTT[mode](event);
    if (Object.values(sent.headers).some((value) => Buffer.byteLength(`${value}`) > 65535)) {
      throw new Unsupported("a property that no client sends");
    }
    return message(sent["User Properties"], sent.payload, sent.PUBLISH["Content Type"]);
  },
};

// ---- the protocol ------------------------------------------------------------------------------

const ACTIONS = {
  hello: () => ({
    name: "cloudevents (JavaScript SDK)",
    version,
    bindings: Object.keys(READERS),
    invents: ["time", "datacontenttype"],
    no_null: ["kafka"],
  }),
  decode: (question) => ({
    events: read(question).map((event) => eventToJson(event, isBinary(question))),
  }),
  encode: ({ binding, mode, event }) => ({ message: WRITERS[binding](eventFromJson(event, mode), mode) }),
  relay: ({ binding, message: received, to, mode }) => ({
    messages: read({ binding, message: received }).map((event) => WRITERS[to](event, mode)),
  }),
};

for await (const line of readline.createInterface({ input: process.stdin, crlfDelay: Infinity })) {
  const question = JSON.parse(line);
  let answer;
  try {
    answer = ACTIONS[question.do](question);
  } catch (error) {
    // Whatever is thrown is a refusal: JavaScript has one kind of `catch`.
    if (error instanceof Unsupported) answer = { unsupported: error.message };
    else answer = { error: { text: `${error.name}: ${error.message}` } };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
