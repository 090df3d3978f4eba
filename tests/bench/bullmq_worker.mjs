// What a studio would take instead: a BullMQ worker whose body does the POST with undici and keeps the answer.
// In: as arguments the Redis port, the provider's URL, how many jobs, how many at once. Out: one line of JSON.
import { createRequire } from "node:module";
import path from "node:path";

const require = createRequire(path.join(process.cwd(), "package.json"));
const { Queue, Worker } = require("bullmq");
const { Redis } = require("ioredis");
const { Pool } = require("undici");

const [port, url, count, concurrency] = [process.argv[2], process.argv[3], +process.argv[4], +process.argv[5]];
const connection = { host: "127.0.0.1", port: +port, maxRetriesPerRequest: null };
const name = `matches-${process.pid}`;
const queue = new Queue(name, { connection });
const body = (id) => JSON.stringify({ id, location: "region-0", image: "my-game" });
for (let first = 0; first < count; first += 1000) {
  const jobs = Array.from({ length: Math.min(1000, count - first) }, (_, i) => ({ name: "match", data: { id: `m-${first + i}` } }));
  await queue.addBulk(jobs);
}
const pool = new Pool(url, { connections: concurrency });
const redis = new Redis(connection);
let done = 0;
let began = 0;
let cpu = null;
const warm = Math.floor(count / 10);
const worker = new Worker(
  name,
  async (job) => {
    const { statusCode, body: reply } = await pool.request({
      path: "/session", method: "POST", headers: { "content-type": "application/json" }, body: body(job.data.id),
    });
    const answer = await reply.json();
    if (statusCode !== 201) throw new Error(`answered ${statusCode}`);
    await redis.hset(`answer:${job.data.id}`, "state", "allocated", "host", answer.host, "port", answer.ports[0].host);
  },
  { connection, concurrency, removeOnComplete: { count: 0 } },
);
worker.on("failed", (_, error) => {
  console.error(error);
  process.exit(1);
});
worker.on("completed", async () => {
  done += 1;
  if (done === warm) {
    began = performance.now();
    cpu = process.cpuUsage();
  }
  if (done < count) return;
  const seconds = (performance.now() - began) / 1000;
  const used = process.cpuUsage(cpu);
  const cpuMs = (used.user + used.system) / 1000 / (count - warm);
  console.log(JSON.stringify({ allocations_per_second: (count - warm) / seconds, worker_cpu_ms: cpuMs }));
  process.exit(0);
});
