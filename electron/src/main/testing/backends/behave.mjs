// A sidecar that misbehaves in the way that its first argument names; the others tell it where to leave its pid.
import { writeFileSync, appendFileSync } from "node:fs";
import { createServer } from "node:http";

const [how, pidFile] = process.argv.slice(2);
appendFileSync(pidFile, `${process.pid}\n`);

function serve(answer) {
  const server = createServer((request, response) => answer(request, response));
  server.listen(0, "127.0.0.1", () => process.stdout.write(`noise before\nRPC_PORT=${server.address().port}\n`));
  return server;
}

function rpc(request, response, results = {}) {
  let body = "";
  request.on("data", (piece) => (body += piece));
  request.on("end", () => {
    const { id, method } = JSON.parse(body);
    response.setHeader("Content-Type", "application/json");
    response.end(JSON.stringify({ jsonrpc: "2.0", id, result: results[method] ?? {} }));
  });
}

const healthy = (request, response) => {
  if (request.url === "/rpc") return rpc(request, response);
  if (request.url === "/health") return response.end('{"status":"ok"}');
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  response.write('id: 7\nevent: ready\ndata: {"cursor":7}\n\n');
};

const ways = {
  "exits-at-once": () => {
    process.stderr.write("first line\nthe disk is on fire\n");
    process.exit(4);
  },
  "owned-root": () => {
    process.stderr.write("Another sidecar owns this launcher root.\n");
    process.exit(3);
  },
  "no-port": () => {
    process.stderr.write("still thinking\n");
    setInterval(() => undefined, 1000);
  },
  "closes-stdout": () => {
    process.stdout.destroy();
    setInterval(() => undefined, 1000);
  },
  "bad-port": () => {
    process.stdout.write("RPC_PORT=99999\nRPC_PORT=x\nxRPC_PORT=80\n");
    setInterval(() => undefined, 1000);
  },
  "dies-later": () => {
    serve(healthy);
    setTimeout(() => {
      process.stderr.write("out of memory\n");
      process.kill(process.pid, "SIGKILL");
    }, 150);
  },
  "ignores-term": () => {
    process.on("SIGTERM", () => process.stderr.write("no\n"));
    process.on("SIGINT", () => undefined);
    serve(healthy);
  },
  "ends-by-term": () => serve(healthy),
  "ends-when-asked": () =>
    serve((request, response) => {
      healthy(request, response);
      if (request.url === "/rpc") response.on("finish", () => process.exit(0));
    }),
  // Answers once, then never again, though its port stays open.
  hangs: () => {
    let asked = 0;
    serve((request, response) => {
      if (asked++ === 0) healthy(request, response);
    });
    process.on("SIGTERM", () => undefined);
  },
  "tells-secrets": () => {
    process.stderr.write(`my token is ${process.env.PUMAS_RPC_TOKEN}\n`);
    process.exit(1);
  },
};

if (!(how in ways)) throw new Error(`no such way: ${how}`);
writeFileSync(`${pidFile}.way`, how);
ways[how]();
