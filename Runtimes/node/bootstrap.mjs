// SPDX-License-Identifier: Apache-2.0
// Runs JavaScript functions: a Lambda Runtime API client over one raw socket. `file.export`; the handler may return a
// value, a promise, or call back, or stream: awslambda.streamifyResponse(async (event, responseStream, context) => …).
import net from "node:net";
import fs from "node:fs";
import path from "node:path";
import { Writable } from "node:stream";
import v8 from "node:v8";
import { pathToFileURL } from "node:url";

const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(":");
const base = "/2018-06-01/runtime/";

/** One keep-alive connection; responses come in the order of the requests. */
class Connection {
    #socket;
    #buffer = Buffer.alloc(0);
    #waiting = [];

    async open() {
        this.#socket = net.connect({ host, port: Number(port), noDelay: true });
        await new Promise((resolve, reject) => this.#socket.once("connect", resolve).once("error", reject));
        this.#socket.on("data", (data) => {
            this.#buffer = this.#buffer.length ? Buffer.concat([this.#buffer, data]) : data;
            this.#parse();
        });
        this.#socket.on("close", () => process.exit(0)); // the daemon has gone, and with it the sandbox
    }

    send(text, ...bodies) {
        this.#socket.write(Buffer.concat([Buffer.from(text), ...bodies]));
    }

    /** Writes a piece of a request; calls back when the kernel has taken it. */
    write(data, taken) {
        this.#socket.write(data, taken);
    }

    receive() {
        return new Promise((resolve) => {
            this.#waiting.push(resolve);
            this.#parse();
        });
    }

    #parse() {
        while (this.#waiting.length) {
            const end = this.#buffer.indexOf("\r\n\r\n");
            if (end < 0) return;
            const headers = {};
            for (const line of this.#buffer.subarray(0, end).toString("latin1").split("\r\n").slice(1)) {
                const colon = line.indexOf(":");
                headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
            }
            const length = Number(headers["content-length"] ?? 0);
            if (this.#buffer.length < end + 4 + length) return;
            const body = this.#buffer.subarray(end + 4, end + 4 + length);
            this.#buffer = this.#buffer.subarray(end + 4 + length);
            this.#waiting.shift()({ headers, body });
        }
    }
}

const next = `GET ${base}invocation/next HTTP/1.1\r\nHost: ${host}\r\nFn-Hints: 1\r\n\r\n`;

/** Answers an idle hint: garbage goes back to the kernel before the next event is asked for (--expose-gc in runtime.yaml). */
function giveBack() {
    // V8 would leave the sweeping and the freeing to other threads, which the freezer then stops before they have done it.
    v8.setFlagsFromString("--no-concurrent-sweeping");
    globalThis.gc?.();
    v8.setFlagsFromString("--concurrent-sweeping");
}

function post(place, body, type) {
    const extra = type ? `Lambda-Runtime-Function-Error-Type: ${type}\r\n` : "";
    const head = `POST ${base}${place} HTTP/1.1\r\nHost: ${host}\r\nContent-Type: application/json\r\n${extra}Content-Length: ${body.length}\r\n\r\n`;
    return Buffer.concat([Buffer.from(head), body]);
}

function errorDocument(error, type) {
    const isError = error instanceof Error;
    return {
        errorType: type ?? (isError ? error.name : typeof error),
        errorMessage: isError ? error.message : String(error),
        trace: isError ? (error.stack ?? "").split("\n") : [],
    };
}

class HandlerError extends Error {
    constructor(type, message) {
        super(message);
        this.type = type;
    }
}

const isStreaming = Symbol("streams its answer");

/** Where a streaming function writes its answer. Nothing is sent before its first byte: until then it may fail whole. */
class ResponseStream extends Writable {
    #requestID;
    #contentType = "application/octet-stream";
    #prelude;
    #connection;
    began = false;

    constructor(connection, requestID) {
        super();
        this.#connection = connection;
        this.#requestID = requestID;
    }

    setContentType(type) {
        this.#contentType = type;
    }

    /** Puts the head of an answer over HTTP before the first byte. */
    setPrelude(metadata) {
        this.setContentType("application/vnd.awslambda.http-integration-response");
        this.#prelude = Buffer.concat([Buffer.from(JSON.stringify(metadata)), Buffer.alloc(8)]);
    }

    _write(data, encoding, taken) {
        const bytes = typeof data === "string" ? Buffer.from(data, encoding) : data;
        this.#connection.write(Buffer.concat([this.#begin(), chunk(bytes)]), taken);
    }

    _final(taken) {
        const rest = this.#begin();
        if (rest.length) this.#connection.write(rest, taken);
        else taken();
    }

    #begin() {
        if (this.began) return Buffer.alloc(0);
        this.began = true;
        const head =
            `POST ${base}invocation/${this.#requestID}/response HTTP/1.1\r\nHost: ${host}\r\n` +
            `Content-Type: ${this.#contentType}\r\nLambda-Runtime-Function-Response-Mode: streaming\r\n` +
            "Transfer-Encoding: chunked\r\n" +
            "Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n\r\n";
        return Buffer.concat([Buffer.from(head), this.#prelude ? chunk(this.#prelude) : Buffer.alloc(0)]);
    }
}

function chunk(data) {
    if (!data.length) return data; // an empty chunk would be the last
    return Buffer.concat([Buffer.from(`${data.length.toString(16)}\r\n`), data, Buffer.from("\r\n")]);
}

/** The end of a streamed answer: an error after its first byte is told in trailers. */
function lastChunk(error, kind) {
    if (!error) return Buffer.from("0\r\n\r\n");
    const document = errorDocument(error, kind);
    const body = Buffer.from(JSON.stringify(document)).toString("base64");
    const type = String(document.errorType).replace(/[^\x21-\x7e]/g, "");
    return Buffer.from(`0\r\nLambda-Runtime-Function-Error-Type: ${type}\r\nLambda-Runtime-Function-Error-Body: ${body}\r\n\r\n`);
}

/** What functions know as `awslambda`, without an import. */
globalThis.awslambda = {
    streamifyResponse(handler) {
        handler[isStreaming] = true;
        return handler;
    },
    HttpResponseStream: {
        from(stream, metadata) {
            stream.setPrelude(metadata);
            return stream;
        },
    },
};

async function loadHandler(name) {
    const slash = name.lastIndexOf("/") + 1;
    const dot = name.indexOf(".", slash);
    if (dot < 0) throw new HandlerError("Runtime.MalformedHandlerName", `Bad handler '${name}': expected file.export`);
    const file = path.join(process.env.LAMBDA_TASK_ROOT, name.slice(0, dot));
    const found = [".mjs", ".js", ".cjs"].map((suffix) => file + suffix).find((candidate) => fs.existsSync(candidate));
    if (!found) throw new HandlerError("Runtime.ImportModuleError", `Error: Cannot find module '${name.slice(0, dot)}'`);
    let module;
    try {
        module = await import(pathToFileURL(found));
    } catch (error) {
        const type = error instanceof SyntaxError ? "Runtime.UserCodeSyntaxError" : "Runtime.ImportModuleError";
        throw new HandlerError(type, `${error.name}: ${error.message}`);
    }
    const steps = name.slice(dot + 1).split(".");
    const handler = [module, module.default].map((root) => steps.reduce((value, step) => value?.[step], root)).find((f) => typeof f === "function");
    if (!handler) throw new HandlerError("Runtime.HandlerNotFound", `${name} is undefined or not exported`);
    return handler;
}

function makeContext(headers, done) {
    const deadline = Number(headers["lambda-runtime-deadline-ms"]);
    const env = process.env;
    return {
        awsRequestId: headers["lambda-runtime-aws-request-id"],
        invokedFunctionArn: headers["lambda-runtime-invoked-function-arn"],
        functionName: env.AWS_LAMBDA_FUNCTION_NAME,
        functionVersion: env.AWS_LAMBDA_FUNCTION_VERSION,
        memoryLimitInMB: env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
        logGroupName: env.AWS_LAMBDA_LOG_GROUP_NAME,
        logStreamName: env.AWS_LAMBDA_LOG_STREAM_NAME,
        traceparent: headers.traceparent, // W3C Trace Context, where there is one
        tracestate: headers.tracestate,
        clientContext: headers["lambda-runtime-client-context"] ? JSON.parse(headers["lambda-runtime-client-context"]) : undefined,
        callbackWaitsForEmptyEventLoop: true,
        getRemainingTimeInMillis: () => Math.max(0, deadline - Date.now()),
        done: (error, value) => done(error, value),
        succeed: (value) => done(null, value),
        fail: (error) => done(error ?? new Error("handled")),
    };
}

/** Runs the handler in whichever of the three ways it was written. */
function call(handler, event, headers) {
    return new Promise((resolve, reject) => {
        const done = (error, value) => (error ? reject(error) : resolve(value));
        const result = handler(event, makeContext(headers, done), done);
        if (typeof result?.then === "function") result.then(resolve, reject);
        else if (result !== undefined || handler.length < 3) resolve(result);
    });
}

/** Runs a streaming handler; what it has not ended when it returns is ended then. Returns the end of its answer. */
async function stream(handler, event, headers, output) {
    let failure;
    const over = new Promise((resolve) => output.once("finish", resolve).once("close", resolve));
    output.on("error", (error) => (failure ??= error));
    try {
        await handler(event, output, makeContext(headers, () => {}));
    } catch (error) {
        failure ??= error ?? new Error("handled");
    }
    if (failure && !output.began) throw failure;
    if (!output.writableEnded && !output.destroyed) output.end();
    await over;
    if (!output.began) throw failure ?? new Error("the response stream was destroyed before anything was written");
    if (!output.writableFinished) failure ??= new Error("the response stream was destroyed before its end");
    if (failure) console.error(failure);
    return lastChunk(failure);
}

// Requests at once: so many connections ask for work, and one thread serves them all.
const places = Number(process.env.AWS_LAMBDA_MAX_CONCURRENCY ?? 1);

/** One connection and what runs on it: the request, and where its streaming handler writes. */
class Place {
    connection = new Connection();
    running = "";
    output;

    async serve(handler) {
        this.connection.send(next);
        for (;;) {
            const { headers, body } = await this.connection.receive();
            if (headers["fn-event"] === "idle") {
                giveBack();
                this.connection.send(next);
                continue;
            }
            this.running = headers["lambda-runtime-aws-request-id"];
            if (!this.running) continue; // the answer to a response or an error: the event is behind it
            if (places === 1) {
                const trace = headers["lambda-runtime-trace-id"];
                if (trace) process.env._X_AMZN_TRACE_ID = trace;
                else delete process.env._X_AMZN_TRACE_ID; // the last request's
            }
            const answer = await this.#answer(handler, headers, body);
            this.output = undefined;
            this.connection.send("", answer, Buffer.from(next));
        }
    }

    async #answer(handler, headers, body) {
        try {
            if (handler[isStreaming]) {
                this.output = new ResponseStream(this.connection, this.running);
                return await stream(handler, JSON.parse(body), headers, this.output);
            }
            const value = await call(handler, JSON.parse(body), headers);
            return post(`invocation/${this.running}/response`, Buffer.from(JSON.stringify(value) ?? "null"));
        } catch (error) {
            console.error(error);
            return post(`invocation/${this.running}/error`, Buffer.from(JSON.stringify(errorDocument(error))));
        }
    }

    /** The process ends by an error that nobody caught: which request it belongs to cannot be known. */
    fail(error, kind) {
        const body = Buffer.from(JSON.stringify(errorDocument(error, kind)));
        if (this.output?.began) this.connection.send("", lastChunk(error, kind));
        else if (this.running) this.connection.send("", post(`invocation/${this.running}/error`, body));
    }
}

const all = Array.from({ length: places }, () => new Place());
await Promise.all(all.map((place) => place.connection.open()));
process.on("uncaughtException", (error) => {
    console.error(error);
    for (const place of all) place.fail(error, "Runtime.UnhandledException");
    setTimeout(() => process.exit(129), 50);
});

/** Waits until this runtime, which was started ahead, is a function's; its files are there then. */
async function awaitFunction(connection) {
    giveBack();
    connection.send(`GET /fn/function HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
    const { body } = await connection.receive();
    for (const name of Object.keys(process.env)) delete process.env[name];
    Object.assign(process.env, JSON.parse(body).environment);
    process.chdir("/var/task");
}
if (process.env.FN_PREWARMED) await awaitFunction(all[0].connection);

let handler;
try {
    handler = await loadHandler(process.env._HANDLER ?? "");
} catch (error) {
    const document = errorDocument(error, error.type ?? "Runtime.ImportModuleError");
    console.error(document);
    const { connection } = all[0];
    connection.send("", post("init/error", Buffer.from(JSON.stringify(document)), document.errorType));
    await connection.receive();
    process.exit(1);
}
await Promise.all(all.map((place) => place.serve(handler)));
