// "On Start" of the function node: what gathers while a request is under way goes out as the next.
const { Kafka, CompressionTypes, logLevel } = global.get("kafkajs");
const topic = env.get("PEER_TOPIC");
const kafka = new Kafka({
  brokers: env.get("PEER_BROKERS").split(","),
  logLevel: logLevel.ERROR,
});
// Not idempotent: KafkaJS asks the controller for that, and librdkafka's mock cluster names none.
const producer = kafka.producer({ maxInFlightRequests: 1 });
const MOST = 1000;
let waiting = [];
let busy = false;

async function flush() {
  busy = true;
  while (waiting.length > 0) {
    const batch = waiting.splice(0, MOST);
    try {
      await producer.send({
        topic,
        acks: -1,
        compression: CompressionTypes.None,
        messages: batch.map((msg) => ({ value: msg.payload })),
      });
      for (const msg of batch) {
        if (msg.res) node.send({ ...msg, payload: "", statusCode: 202 });
      }
    } catch (error) {
      node.error(error);
      for (const msg of batch) {
        if (msg.res) node.send({ ...msg, payload: "", statusCode: 503 });
      }
    }
  }
  busy = false;
}

await producer.connect();
context.set("take", (msg) => {
  waiting.push(msg);
  if (!busy) flush();
});
node.log("the producer is connected");
