// SPDX-License-Identifier: Apache-2.0
// Asks /v1/overview every two seconds and draws it. All texts of others go through textContent.

import { bar, line } from "/chart.js";

const PERIOD_MS = 2000;
const find = (id) => document.getElementById(id);

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.map((c) => (c instanceof Node ? c : String(c))));
  return made;
}

function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (n >= 1024 && unit < units.length - 1) { n /= 1024; unit += 1; }
  return `${n >= 100 || unit === 0 || Number.isInteger(n) ? Math.round(n) : n.toFixed(1)} ${units[unit]}`;
}

function duration(s) {
  if (s < 90) return `${Math.round(s)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  return s < 129600 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86400)} d`;
}

const mebibytes = (n) => bytes(n * 1024 * 1024);
const count = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;
const percent = (part) => `${Math.round(100 * part)} %`;
const share = (ratio) => (ratio ? `${ratio} %` : "equal");

/** columns: [title, cell of a row, is it a number] */
function table(place, columns, rows, none) {
  if (!rows.length) {
    place.replaceChildren(element("p", { class: "empty" }, none));
    return;
  }
  const kind = (column) => (column[2] ? { class: "number" } : {});
  const head = element("tr", {}, ...columns.map((c) => element("th", { scope: "col", ...kind(c) }, c[0])));
  const body = rows.map((row) => element("tr", {},
    ...columns.map((c) => element("td", { "data-label": c[0], ...kind(c) }, c[1](row)))));
  place.replaceChildren(element("table", {}, element("thead", {}, head), element("tbody", {}, ...body)));
}

function meter(name, used, leased, whole, text) {
  return element("div", { class: "meter" },
    element("div", { class: "label" }, element("span", {}, name), element("span", {}, text)),
    bar(used, leased, whole, `${name}: ${text}`));
}

function chart(kind, name, series, values, top, text) {
  return element("figure", {},
    line(kind, series.at, values, top, `${name}, lately ${text}`),
    element("figcaption", {}, element("span", {}, name), element("span", {}, text)));
}

function state(name) {
  return name === "live" ? name : element("strong", { class: name }, name);
}

function card(device, series, clients) {
  const busy = Math.min(1, clients.reduce((sum, c) => sum + c.busy, 0));
  const made = element("article", { class: "card" },
    element("h3", {}, device.name),
    element("p", {}, `${device.server} / ${device.index} · `, state(device.state), ` · ${device.uuid}`),
    meter("memory", device.memory_used, device.memory_leased, device.memory,
      `${bytes(device.memory_used)} used, ${bytes(device.memory_leased)} leased of ${bytes(device.memory)}`),
    meter("time", 100 * busy, device.ratio_leased, 100,
      `${percent(busy)} used, ${Math.round(device.ratio_leased)} % leased`),
    meter("vGPUs", 0, device.vgpus_leased, device.vgpus, `${device.vgpus_leased} of ${device.vgpus}`));
  if (series && series.at.length) {
    made.append(
      chart("busy", "busy", series, series.busy, 1, percent(series.busy.at(-1))),
      chart("memory", "memory used", series, series.memory, device.memory, bytes(series.memory.at(-1))));
  }
  return made;
}

function draw(now) {
  const history = new Map(now.history.map((s) => [`${s.server}/${s.device}`, s]));
  const cards = now.devices.map((d) => card(d, history.get(`${d.server}/${d.index}`),
    now.clients.filter((c) => c.server === d.server && c.device === d.index)));
  if (!cards.length) cards.push(element("p", { class: "empty" }, "No server has registered."));
  find("devices").replaceChildren(...cards);
  table(find("clients"), [
    ["program", (c) => c.command || "?"],
    ["pid", (c) => c.pid, true],
    ["pod", (c) => c.pod || "-"],
    ["device", (c) => `${c.server} / ${c.device}`],
    ["memory", (c) => `${bytes(c.memory_used)} of ${bytes(c.memory_limit)}`, true],
    ["share", (c) => share(c.ratio), true],
    ["busy", (c) => percent(c.busy), true],
    ["device time", (c) => duration(c.busy_seconds), true],
    ["kernels", (c) => c.kernels, true],
    ["copied", (c) => bytes(c.copied), true],
    ["transport", (c) => c.transport],
  ], now.clients, "No program uses a vGPU.");
  find("queue-section").hidden = !now.queue.length;
  table(find("queue"), [
    ["program", (q) => q.command || "?"],
    ["pid", (q) => q.pid, true],
    ["wants", (q) => `${count(q.vgpus, "vGPU")}${q.gmem_mib ? `, ${mebibytes(q.gmem_mib)}` : ""}`],
    ["waits for", (q) => duration(q.waited), true],
    ["because", (q) => q.reason],
  ], now.queue, "");
  table(find("leases"), [
    ["lease", (l) => l.id],
    ["state", (l) => (l.reason ? `${l.state}: ${l.reason}` : l.state)],
    ["of", (l) => l.pod || l.command || "?"],
    ["on", (l) => l.vgpus.map((v) => `${v.server} / ${v.device}`).join(", ")],
    ["memory", (l) => l.vgpus.map((v) => mebibytes(v.gmem_mib)).join(", "), true],
    ["share", (l) => l.vgpus.map((v) => share(v.ratio)).join(", "), true],
    ["ends", (l) => (l.expires_in === null ? "with its program" : `in ${duration(l.expires_in)}`), true],
  ], now.leases, "No lease is out.");
  table(find("servers"), [
    ["server", (s) => s.id],
    ["state", (s) => state(s.state)],
    ["address", (s) => s.address || s.local],
    ["devices", (s) => s.devices, true],
    ["programs", (s) => s.sessions, true],
    ["last heard", (s) => `${duration(s.heartbeat_age)} ago`, true],
    ["version", (s) => s.version],
  ], now.servers, "No server has registered.");
  const parts = [count(now.servers.length, "server"), count(now.devices.length, "device"),
    count(now.clients.length, "program"), `${now.queue.length} waiting`];
  say(`${parts.join(" · ")} · up ${duration(now.uptime)} · ${now.version}`);
}

function say(text, isStale = false) {
  find("summary").textContent = text;
  find("summary").classList.toggle("stale", isStale);
}

async function turn() {
  const key = sessionStorage.getItem("orion-key");
  try {
    const answer = await fetch("/v1/overview", {
      headers: key ? { Authorization: `Bearer ${key}` } : {},
      cache: "no-store",
    });
    find("key-form").hidden = ![401, 403].includes(answer.status);
    if (answer.ok) {
      draw(await answer.json());
    } else {
      const problem = await answer.json().catch(() => ({ reason: answer.statusText }));
      say(problem.reason, true);
    }
  } catch {
    say("the controller does not answer; programs that run are not affected", true);
  }
  setTimeout(turn, document.hidden ? 5 * PERIOD_MS : PERIOD_MS);
}

find("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("orion-key", find("key").value);
});
turn();
