// SPDX-License-Identifier: Apache-2.0
// Shows what /v1/events tells, once a second. Names come from people who deploy: only ever set as text.
"use strict";
const $ = (id) => document.getElementById(id);
const MOST_DECISIONS = 200;
// What was decided while the page was paused: shown when it goes on.
const missed = [];
let paused = false, filter = "", last = { sandboxes: null, host: null, calls: new Map() };

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") node.className = value;
    else if (name === "width" || name === "left") node.style[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

function size(bytes) {
  if (bytes === undefined || bytes === null) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let step = 0;
  while (bytes >= 1024 && step < 4) { bytes /= 1024; step += 1; }
  return `${bytes >= 100 || step === 0 ? Math.round(bytes) : bytes.toFixed(1)} ${units[step]}`;
}
const percent = (part, whole) => `${Math.max(0, Math.min(100, whole > 0 ? 100 * part / whole : 0))}%`;
const matches = (name) => !filter || (name || "").toLowerCase().includes(filter);

// The same colour for a function everywhere and always.
function colour(name) {
  let hash = 0;
  for (const letter of name) hash = (hash * 31 + letter.codePointAt(0)) % 360;
  return `hsl(${hash} 45% 50%)`;
}

function showHost() {
  const ledger = last.host;
  if (!ledger) return;
  const host = ledger.host || {};
  $("tier").dataset.tier = host.tier || "";
  const tier = host.tier ? `host is ${host.tier}` : "";
  if ($("tier").textContent !== tier) $("tier").textContent = tier;
  const held = ledger.functions.filter((f) => f.held > 0).sort((a, b) => b.held - a.held);
  $("budget").replaceChildren(...held.map((f) => {
    const part = element("span", { title: `${f.name}: ${size(f.held)}`, width: percent(f.held, ledger.budget) });
    part.style.background = colour(f.name);
    return part;
  }));
  $("budget").setAttribute("aria-label",
    `${size(ledger.promised)} of ${size(ledger.budget)} are promised: ` + held.map((f) => `${f.name} ${size(f.held)}`).join(", "));
  const given = ledger.functions.reduce((sum, f) => sum + f.reclaimed, 0);
  const facts = {
    "promised": `${size(ledger.promised)} of ${size(ledger.budget)}`, "free": size(ledger.free),
    "available on the host": size(host.available), "given back, ever": size(given),
    "swap free": host.swapTotal ? `${size(host.swapFree)} of ${size(host.swapTotal)}` : "none",
    "stalled, some / all": `${host.pressureSome ?? "–"}% / ${host.pressureFull ?? "–"}%`,
  };
  $("host").replaceChildren(...Object.entries(facts).map(([name, value]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, value))));
}

// What a bar's whole width stands for: the most that this sandbox was ever seen to have.
const scales = new Map();
function scale(sandbox) {
  const most = Math.max(scales.get(sandbox.id) || 0, sandbox.max || 0, (sandbox.current || 0) + (sandbox.swap || 0), 1);
  scales.set(sandbox.id, most);
  return most;
}

function bar(sandbox) {
  const whole = scale(sandbox), swap = sandbox.swap || 0, current = sandbox.current || 0;
  const text = `${size(current)} in use, ${size(swap)} swapped out, high ${sandbox.high ? size(sandbox.high) : "unlimited"}, ` +
    `max ${sandbox.max ? size(sandbox.max) : "unlimited"}`;
  const node = element("div", { class: "bar", role: "img", "aria-label": text, title: text });
  node.append(element("span", { class: "current", left: "0", width: percent(current, whole) }),
    element("span", { class: "swap", left: percent(current, whole), width: percent(swap, whole) }));
  if (sandbox.high) node.append(element("span", { class: "high", left: percent(sandbox.high, whole) }));
  if (sandbox.max) node.append(element("span", { class: "max", left: `calc(${percent(sandbox.max, whole)} - 3px)` }));
  return node;
}

// Rows stay where they are and change: bars move instead of jumping, and a selection survives.
function keepRows(body, items, key, cells) {
  const rows = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  const wanted = items.map((item) => {
    const row = rows.get(key(item)) || element("tr", { "data-key": key(item) });
    const fresh = cells(item);
    fresh.forEach((cell, index) => {
      const old = row.cells[index];
      if (!old) row.append(cell);
      else if (cell.firstElementChild?.classList.contains("bar") && old.firstElementChild) moveBar(old.firstElementChild, cell.firstElementChild);
      else if (old.outerHTML !== cell.outerHTML) old.replaceWith(cell);
    });
    return row;
  });
  const same = wanted.length === body.rows.length && wanted.every((row, index) => body.rows[index] === row);
  if (!same) body.replaceChildren(...wanted);
}

function moveBar(old, fresh) {
  for (const name of ["aria-label", "title"]) old.setAttribute(name, fresh.getAttribute(name));
  if (old.children.length !== fresh.children.length) return old.replaceWith(fresh);
  [...fresh.children].forEach((part, index) => {
    old.children[index].className = part.className;
    old.children[index].style.width = part.style.width;
    old.children[index].style.left = part.style.left;
  });
}

const cell = (text, kind = "") => element("td", kind ? { class: kind } : {}, text);

function showSandboxes() {
  if (!last.sandboxes) return;
  const shown = last.sandboxes.sandboxes.filter((s) => matches(s.function))
    .sort((a, b) => a.function.localeCompare(b.function) || a.id.localeCompare(b.id));
  $("count").textContent = last.sandboxes.limitsEnforced ? `(${shown.length})` : `(${shown.length}; limits are not enforced on this host)`;
  $("none").hidden = last.sandboxes.sandboxes.length > 0;
  keepRows($("sandboxes").tBodies[0], shown, (s) => s.id, (s) => [
    cell(s.id, "name"), cell(s.version ? `${s.function}:${s.version}` : s.function, "name"), cell(s.runtime || "–"),
    cell(s.address ? `${s.network} ${s.address}` : s.network || "–", "name"), element("td", { class: "state", "data-state": s.state }, s.state), element("td", {}, bar(s)),
    cell(size(s.current), "number"), cell(s.max ? size(s.max) : "–", "number"), cell(size(s.swap), "number"),
    cell(s.pressureSome === undefined ? "–" : `${s.pressureSome}%`, "number"), cell(String(s.invocations), "number"),
  ]);
  const alive = new Set(last.sandboxes.sandboxes.map((s) => s.id));
  for (const id of scales.keys()) if (!alive.has(id)) scales.delete(id);
}

function share(calls) {
  const parts = ["cold", "thawed", "warm"].map((kind) => [kind, calls.starts[kind] || 0]);
  parts[2][1] += calls.starts.prewarmed || 0;
  const all = parts.reduce((sum, [, count]) => sum + count, 0);
  const text = parts.map(([kind, count]) => `${count} ${kind}`).join(", ");
  return element("div", { class: "share", role: "img", "aria-label": text, title: text },
    ...parts.map(([kind, count]) => element("span", { class: kind, width: percent(count, all) })));
}

function quantile(buckets, part) {
  const all = buckets.at(-1)?.count || 0;
  const found = buckets.find((bucket) => bucket.count >= all * part);
  if (!all || !found) return "–";
  if (found.edge === Infinity) return `> ${buckets.at(-2)?.edge ?? 0} s`;
  return found.edge < 1 ? `≤ ${Math.round(found.edge * 10000) / 10} ms` : `≤ ${found.edge} s`;
}

function showFunctions() {
  if (!last.host) return;
  const held = new Map(last.host.functions.map((f) => [f.name, f]));
  const names = [...new Set([...held.keys(), ...last.calls.keys()])].filter(matches).sort();
  keepRows($("functions").tBodies[0], names, (name) => name, (name) => {
    const f = held.get(name) || {}, calls = last.calls.get(name) || { starts: {}, total: 0, buckets: [] };
    return [cell(name, "name"), cell(String(f.sandboxes || 0), "number"), cell(size(f.held || 0), "number"),
      cell(size(f.reclaimed || 0), "number"), cell(String(calls.total), "number"), element("td", {}, share(calls)),
      cell(quantile(calls.buckets, 0.5), "number"), cell(quantile(calls.buckets, 0.95), "number")];
  });
}

// Counters come from the same page that Prometheus reads.
function readMetrics(text) {
  const calls = new Map();
  const of = (name) => calls.get(name) || calls.set(name, { starts: {}, total: 0, sums: new Map(), buckets: [] }).get(name);
  for (const line of text.split("\n")) {
    const match = /^(fn_invocation_duration_seconds_(?:bucket|count))\{(.*)\} (\S+)$/.exec(line);
    if (!match) continue;
    const labels = Object.fromEntries([...match[2].matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map((m) => [m[1], m[2]]));
    const entry = of(labels.function), value = Number(match[3]);
    if (match[1].endsWith("_count")) {
      entry.starts[labels.start] = value;
      entry.total += value;
    } else {
      const edge = labels.le === "+Inf" ? Infinity : Number(labels.le);
      entry.sums.set(edge, (entry.sums.get(edge) || 0) + value);
    }
  }
  for (const entry of calls.values()) {
    entry.buckets = [...entry.sums].map(([edge, count]) => ({ edge, count })).sort((a, b) => a.edge - b.edge);
  }
  return calls;
}

const units = { bytes: size, ms: (n) => `${n} ms`, us: (n) => `${n} µs`, percent: (n) => `${n}%`, permille: (n) => `${n / 10}%` };
function showDecision(decision) {
  const numbers = Object.entries(decision.numbers || {}).map(([name, value]) => {
    const words = name.split("_"), unit = units[words.at(-1)];
    return unit ? `${words.slice(0, -1).join(" ")} ${unit(value)}` : `${words.join(" ")} ${value}`;
  });
  const subject = decision.sandbox || decision.function || "host";
  const row = element("li", { "data-function": decision.function || "" },
    element("time", { datetime: decision.time }, decision.time.slice(11, 23)),
    element("span", { class: "kind" }, decision.kind), element("span", {}, subject), element("span", {}, decision.reason));
  if (numbers.length) row.append(element("small", {}, numbers.join(", ")));
  row.hidden = !matches(decision.function);
  $("decisions").prepend(row);
  while ($("decisions").children.length > MOST_DECISIONS) $("decisions").lastElementChild.remove();
}

function showAll() {
  if (paused) return;
  showHost();
  showSandboxes();
  showFunctions();
}

function connection(text) { if ($("connection").textContent !== text) $("connection").textContent = text; }

function listen() {
  const events = new EventSource("v1/events");
  const on = (name, use) => events.addEventListener(name, (event) => use(JSON.parse(event.data)));
  events.onopen = () => connection("live");
  events.onerror = () => connection("the daemon does not answer; trying again…");
  on("host", (data) => { last.host = data; showAll(); });
  on("sandboxes", (data) => { last.sandboxes = data; showAll(); });
  on("decision", (data) => {
    if (!paused) return showDecision(data);
    missed.push(data);
    if (missed.length > MOST_DECISIONS) missed.shift();
  });
}

async function poll() {
  try {
    const answer = await fetch("metrics");
    if (answer.ok) { last.calls = readMetrics(await answer.text()); showAll(); }
  } catch { /* the event stream tells that the daemon is away */ }
  setTimeout(poll, document.hidden ? 10000 : 2000);
}

$("filter").addEventListener("input", () => {
  filter = $("filter").value.trim().toLowerCase();
  for (const row of $("decisions").children) row.hidden = !matches(row.dataset.function);
  showAll();
});
function pause() {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  $("pause").textContent = paused ? "Go on" : "Pause";
  if (!paused) missed.splice(0).forEach(showDecision);
  showAll();
}
$("pause").addEventListener("click", pause);
document.addEventListener("keydown", (event) => {
  if (event.target instanceof HTMLInputElement || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "p") pause();
  if (event.key === "/") { event.preventDefault(); $("filter").focus(); }
});

fetch("v1/decisions?limit=50").then((answer) => answer.json())
  .then((list) => list.decisions.forEach(showDecision)).catch(() => {}).finally(listen);
poll();
