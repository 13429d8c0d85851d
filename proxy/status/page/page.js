"use strict";
// Shows what /events tells: one JSON object per message, as type update in
// stream.go has it. Whatever another end may have written goes into text nodes.

const MINUTES = 15; // of beats, as the program keeps them
const SCALES = [[2, 1], [6, 4, 2], [MINUTES, 10, 5]]; // of the plot; a young program's beats are not crowded into a corner
const EVENTS = 100;
const RETRY = 2000; // ms, when the program does not answer

const byId = (id) => document.getElementById(id);
let source = null; // the open stream; null while paused or hidden
let paused = false;
let retry = 0;
let contact = false; // something was received since the last failure
let last = null; // the last update
let skew = 0; // ms that this clock is ahead of the program's
let seconds = []; // beats, the oldest first, as {t, answered, missed, least, mean, most}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function plural(n, one, many) {
  return n.toLocaleString("en") + " " + (n === 1 ? one : many);
}

// Durations in seconds, as the status command says them.

function span(s) {
  s = Math.max(0, s);
  if (s < 60) return Math.floor(s) + "s";
  if (s < 3600) return Math.floor(s / 60) + "m" + Math.floor(s % 60) + "s";
  if (s < 86400) return Math.floor(s / 3600) + "h" + Math.floor((s % 3600) / 60) + "m";
  return Math.floor(s / 86400) + "d" + Math.floor((s % 86400) / 3600) + "h";
}

function trip(s) {
  if (!s) return "–";
  const ms = s * 1000;
  if (ms >= 1000) return (ms / 1000).toFixed(2) + " s";
  return (ms < 10 ? ms.toFixed(2) : Math.round(ms)) + " ms";
}

function size(n) {
  if (n < 1024) return n + " B";
  let i = -1;
  do { n /= 1024; i++; } while (n >= 1024 && i < 5);
  return n.toFixed(1) + " " + "KMGTPE"[i] + "iB";
}

const now = () => Date.now() - skew;

// Tables. A row stays the same element for as long as its key is there, so that
// what a person has marked stays marked.

const linkColumns = [
  ["Other end", (l) => l.address, "wide"],
  ["Key", (l) => l.key || "", "wide"],
  ["Up for", (l) => span(l.age_seconds), "number"],
  ["Round trip", (l) => trip(l.rtt_seconds), "number"],
  ["Last byte", (l) => span(l.last_byte_seconds_ago) + " ago", "number"],
  ["Missed", (l) => l.missed + (l.missed_in_a_row ? " (" + l.missed_in_a_row + " in a row)" : ""), "number"],
  ["Interval", (l) => l.interval_seconds ? l.interval_seconds + "s" : "off", "number"],
  ["Sent", (l) => size(l.sent_bytes), "number"],
  ["Received", (l) => size(l.received_bytes), "number"],
  ["Program", (l) => l.agent || ""],
];

const sessionColumns = [
  ["Target", (v) => v.target, "wide"],
  ["State", (v) => v.state + " " + span(v.state_for_seconds), "number"],
  ["Age", (v) => span(v.age_seconds), "number"],
  ["To target", (v) => size(v.to_target_bytes), "number"],
  ["To client", (v) => size(v.to_client_bytes), "number"],
  ["Replay", (v) => v.pid ? "–" : size(v.replay_bytes), "number"],
  ["Pauses", (v) => String(v.pauses), "number"],
  ["Session", (v) => v.id.slice(0, 12)],
  ["Key", (v) => v.key || "", "wide"],
  ["Process", (v) => v.pid ? String(v.pid) : "", "number"],
];

function cell(tag, role, column) {
  const c = document.createElement(tag);
  c.setAttribute("role", role);
  if (column[2]) c.className = column[2];
  return c;
}

function makeTable(id, all, keyOf, trouble) {
  const table = byId(id).querySelector("table");
  const rows = new Map();
  let columns = [];

  function head(wanted) {
    if (wanted.length === columns.length && wanted.every((c, i) => c === columns[i])) return;
    columns = wanted;
    rows.clear();
    table.tBodies[0].replaceChildren();
    const row = document.createElement("tr");
    row.setAttribute("role", "row");
    for (const c of columns) {
      const th = cell("th", "columnheader", c);
      th.scope = "col";
      th.textContent = c[0];
      row.append(th);
    }
    table.tHead.replaceChildren(row);
  }

  function make() {
    const row = document.createElement("tr");
    row.setAttribute("role", "row");
    columns.forEach((c, i) => {
      const td = i ? cell("td", "cell", c) : cell("th", "rowheader", c);
      if (!i) td.scope = "row";
      td.dataset.label = c[0];
      row.append(td);
    });
    return row;
  }

  return function show(list) {
    table.hidden = list.length === 0;
    head(all.filter((c) => list.some((v) => c[1](v) !== "")));
    const seen = new Set();
    let before = table.tBodies[0].firstElementChild;
    for (const v of list) {
      const key = keyOf(v);
      if (seen.has(key)) continue;
      seen.add(key);
      let row = rows.get(key);
      if (!row) rows.set(key, row = make());
      columns.forEach((c, i) => setText(row.cells[i], c[1](v)));
      row.classList.toggle("bad", trouble(v));
      if (row === before) before = row.nextElementSibling;
      else table.tBodies[0].insertBefore(row, before);
    }
    for (const [key, row] of rows) {
      if (!seen.has(key)) {
        row.remove();
        rows.delete(key);
      }
    }
  };
}

const showLinks = makeTable("links", linkColumns, (l) => l.address + " " + (l.key || ""), (l) => l.missed_in_a_row > 0);
const showSessions = makeTable("sessions", sessionColumns, (v) => v.id, (v) => v.state === "detached");

function showTotals(u) {
  const s = u.status, t = u.totals;
  const links = [], sessions = [];
  if (t.links === 0) links.push(s.relay === "direct" ? "No relay, so no link." : "No link.");
  if (t.links > s.links.length) links.push("… and " + plural(t.links - s.links.length, "more link.", "more links."));
  if (t.links_missing) links.push(plural(t.links_missing, "link has", "links have") + " missed the last beat.");
  setText(byId("links-more"), links.join(" "));
  if (t.sessions === 0) sessions.push("No sessions.");
  if (t.sessions > s.sessions.length) sessions.push("… and " + plural(t.sessions - s.sessions.length, "more session.", "more sessions."));
  const states = Object.keys(t.states).sort().map((k) => t.states[k].toLocaleString("en") + " " + k);
  if (t.sessions > 1) sessions.push("In all: " + states.join(", ") + ".");
  setText(byId("sessions-more"), sessions.join(" "));
  const l = s.last_lost;
  setText(byId("lost"), l ? "Last link lost " + span(l.seconds_ago) + " ago: " + l.reason + (l.error ? " (" + l.error + ")" : "") + ", " + l.address : "");
}

// The state is read aloud when it changes, so nothing in it counts seconds.

function state(u) {
  const s = u.status, t = u.totals;
  if (s.draining) return ["Draining: no new sessions, " + plural(t.sessions, "session is", "sessions are") + " left", "bad"];
  if (s.role === "relay") return [plural(t.links, "link", "links") + ", " + plural(t.sessions, "session", "sessions"), t.links ? "" : "idle"];
  if (s.relay === "direct") return ["Direct: targets are dialled from here, without a relay", "idle"];
  if (t.links === 0) {
    const why = s.dial_error ? ": " + s.dial_error.text : "";
    return ["No link to " + s.relay + (s.dialling ? ", it is being dialled" : "") + why, "bad"];
  }
  if (t.links_missing) return ["Link to " + s.relay + " is in doubt: a beat was missed", "bad"];
  return ["Link to " + s.relay + " is up", ""];
}

function showState(text, look) {
  setText(byId("state"), text);
  if (byId("state").className !== look) byId("state").className = look;
  document.body.classList.toggle("stale", !source || !contact);
}

function showProgram(u) {
  const s = u.status;
  const name = "sshka-" + s.role;
  setText(byId("name"), name);
  document.title = name + ": " + byId("state").textContent;
  setText(byId("program"), name + " " + s.version + ", process " + s.pid + ", up " + span(s.uptime_seconds));
  const l = s.links[0];
  setText(byId("since"), s.role === "proxy" && l ? "For " + span(l.age_seconds) + ", " + plural(u.totals.sessions, "session", "sessions") : "");
}

// Events, the newest first.

function relative(time) {
  time.textContent = span((now() - Date.parse(time.dateTime)) / 1000) + " ago";
}

function showEvents(u) {
  const log = byId("log");
  if (u.first) log.replaceChildren();
  for (const e of u.events || []) {
    const item = document.createElement("li");
    const time = document.createElement("time");
    const text = document.createElement("span");
    time.dateTime = e.time;
    time.title = new Date(e.time).toString();
    text.textContent = e.text;
    if (/^(link_lost|beat_missed|session_paused)$/.test(e.kind)) text.className = "bad";
    if (/^(link_up|session_resumed)$/.test(e.kind)) text.className = "good";
    if (!u.first) item.className = "new";
    item.append(time, text);
    log.prepend(item);
  }
  while (log.children.length > EVENTS) log.lastElementChild.remove();
  if (u.events_lost) setText(byId("gap"), plural(u.events_lost, "event was", "events were") + " not shown: too much happened at once.");
  else if (u.first) setText(byId("gap"), u.events ? "" : "Nothing has happened yet.");
  else if (u.events) setText(byId("gap"), "");
}

// Beats.

function takeBeats(u) {
  if (u.first) seconds = [];
  for (const b of u.beats || []) {
    const t = Date.parse(b.time);
    while (seconds.length && seconds[seconds.length - 1].t >= t) seconds.pop(); // it is still being counted
    seconds.push({ t, answered: b.answered, missed: b.missed, least: b.least_seconds, mean: b.mean_seconds, most: b.most_seconds });
  }
  const oldest = now() - MINUTES * 60000;
  while (seconds.length && seconds[0].t < oldest) seconds.shift();
}

function summarise() {
  const answered = seconds.filter((b) => b.answered);
  const sum = (of) => seconds.reduce((n, b) => n + of(b), 0);
  const missed = sum((b) => b.missed);
  let text = "Last " + MINUTES + " minutes: " + plural(sum((b) => b.answered), "beat", "beats") + " answered, " + missed.toLocaleString("en") + " missed.";
  if (answered.length) {
    const least = Math.min(...answered.map((b) => b.least));
    const most = Math.max(...answered.map((b) => b.most));
    text += " Round trip: last " + trip(answered[answered.length - 1].mean) + ", least " + trip(least) + ", most " + trip(most) + ".";
  }
  setText(byId("summary"), seconds.length ? text : "No beats yet in the last " + MINUTES + " minutes.");
}

function shape(svg, tag, look, attributes) {
  let node = svg.querySelector("." + look);
  if (!node) {
    node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    node.setAttribute("class", look);
    svg.append(node);
  }
  for (const k in attributes) if (node.getAttribute(k) !== String(attributes[k])) node.setAttribute(k, attributes[k]);
  return node;
}

// roundUp returns the next of 1, 2, 5, 10, 20, 50, … ms.
function roundUp(s) {
  const power = 10 ** Math.floor(Math.log10(s * 1000));
  return [1, 2, 5, 10].map((n) => n * power / 1000).find((n) => n >= s * 0.999);
}

function draw() {
  const svg = byId("plot");
  const W = svg.clientWidth || 600, H = svg.clientHeight || 160;
  const left = 60, right = W - 12, top = 24, bottom = H - 22;
  const end = now();
  const scale = SCALES.find((s) => !seconds.length || end - seconds[0].t <= s[0] * 60000) || SCALES[SCALES.length - 1];
  const width = scale[0] * 60000;
  const answered = seconds.filter((b) => b.answered);
  const most = roundUp(Math.max(0.001, ...answered.map((b) => b.most)));
  const x = (t) => (left + (right - left) * Math.min(1, 1 - (end - t) / width)).toFixed(1);
  const y = (s) => (bottom - (bottom - top) * s / most).toFixed(1);
  svg.setAttribute("viewBox", "0 0 " + W + " " + H);

  let grid = "";
  [0, 0.5, 1].forEach((part, i) => {
    grid += "M" + left + " " + y(part * most) + "H" + right;
    setText(shape(svg, "text", "y" + i, { x: left - 6, y: Number(y(part * most)) + 4, "text-anchor": "end" }), trip(part * most).replace("–", "0").replace(/\.0+ /, " "));
  });
  for (let i = 0; i < 4; i++) {
    const minutes = i < scale.length ? scale[i] : 0; // those that are not needed lie on "now"
    const at = x(end - minutes * 60000);
    grid += "M" + at + " " + top + "V" + bottom;
    setText(shape(svg, "text", "x" + i, { x: at, y: H - 6, "text-anchor": i === 0 ? "start" : minutes ? "middle" : "end" }), minutes ? "−" + minutes + " min" : i === 3 ? "now" : "");
  }
  shape(svg, "path", "grid", { d: grid });

  // The line ends at a miss: nobody knows what came between.
  let line = "", dots = "", misses = "", band = [], bands = "", open = false;
  const close = () => {
    if (band.length > 1) bands += "M" + band.map((b) => x(b.t) + " " + y(b.most)).join("L") + "L" + band.reverse().map((b) => x(b.t) + " " + y(b.least)).join("L") + "Z";
    band = [];
    open = false;
  };
  for (const b of seconds) {
    if (b.answered) {
      line += (open ? "L" : "M") + x(b.t) + " " + y(b.mean);
      dots += "M" + x(b.t) + " " + y(b.mean) + "h0";
      band.push(b);
      open = true;
    }
    if (b.missed) {
      const cx = Number(x(b.t));
      misses += "M" + (cx - 4) + " 8l8 8m0 -8l-8 8";
      if (!b.answered) close();
    }
  }
  close();
  shape(svg, "path", "band", { d: bands });
  shape(svg, "path", "line", { d: line });
  shape(svg, "path", "dots", { d: answered.length <= 120 ? dots : "" });
  shape(svg, "path", "misses", { d: misses });
}

// The stream.

function show(u) {
  last = u;
  skew = Date.now() - Date.parse(u.time);
  showState(...state(u));
  showProgram(u);
  showLinks(u.status.links);
  showSessions(u.status.sessions);
  showTotals(u);
  takeBeats(u);
  showEvents(u);
  tick();
}

// tick moves what moves with time.
function tick() {
  for (const time of byId("log").querySelectorAll("time")) relative(time);
  summarise();
  draw();
}

function close() {
  clearTimeout(retry);
  if (source) source.close();
  source = null;
  contact = false;
}

function open() {
  close();
  if (paused || document.hidden) return;
  const s = source = new EventSource("/events");
  s.onmessage = (m) => {
    contact = true;
    show(JSON.parse(m.data));
  };
  s.onerror = () => {
    if (s !== source) return;
    close();
    showState("The program does not answer; asking again", "bad");
    retry = setTimeout(open, RETRY);
  };
}

byId("pause").addEventListener("click", () => {
  paused = !paused;
  byId("pause").setAttribute("aria-pressed", String(paused));
  if (paused) {
    close();
    showState("Paused", "idle");
  } else open();
});
document.addEventListener("visibilitychange", () => { if (document.hidden) close(); else open(); });
window.addEventListener("resize", draw);
setInterval(() => { if (last && !contact && !paused) tick(); }, 1000);
showState("Asking the program …", "idle");
draw();
open();
