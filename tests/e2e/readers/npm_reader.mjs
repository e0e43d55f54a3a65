// Reads messages with the official JavaScript SDK: one JSON object a line in, one out.
//   in:  {"binding": "HTTP" | "Kafka", "headers": {...}, "body": base64 or null, "key": ...}
//   out: {"attributes": {...}, "data": base64 or null, "json": ...} or {"error": "..."}
import readline from "node:readline";
import * as sdk from "cloudevents";

const { HTTP, Kafka } = sdk.default ?? sdk;

// What a framework hands over: text as a string, anything else as bytes.
function bodyOf({ headers, body }) {
  if (body === null) return undefined;
  const bytes = Buffer.from(body, "base64");
  const contentType = headers["content-type"] ?? "";
  return /json|^text\//i.test(contentType) ? bytes.toString("utf8") : bytes;
}

function read(message) {
  const value = bodyOf(message);
  const event =
    message.binding === "Kafka"
      ? Kafka.toEvent({ headers: message.headers, key: message.key, value, body: value })
      : HTTP.toEvent({ headers: message.headers, body: value });
  const { data, data_base64: base64, ...attributes } = event.toJSON();
  if (base64 !== undefined) return { attributes, data: base64 };
  if (data === undefined) return { attributes, data: null };
  if (typeof data === "string") return { attributes, data: Buffer.from(data).toString("base64") };
  if (data instanceof Uint8Array) return { attributes, data: Buffer.from(data).toString("base64") };
  return { attributes, json: data };
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  let answer;
  try {
    answer = read(JSON.parse(line));
  } catch (error) {
    answer = { error: `${error.name}: ${error.message}` };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
