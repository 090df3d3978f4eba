"use strict";
// Asks for /console.json and shows it. Every text goes in by textContent: whatever it holds, it stays text.

const EVERY_MS = 2000, SOON_MS = 300, STALE_SECONDS = 6, POINTS_MAX = 60;
const GOOD = new Set(["allocated", "open"]), BAD = new Set(["failed", "expired", "refused", "credential"]);
const rates = [];
let lastAt = null;

const at = (id) => document.getElementById(id);
const say = (id, text) => { at(id).textContent = text; };
const number = (value) => (value ?? 0).toLocaleString("en", { maximumFractionDigits: 1 });
const clock = (ms) => { const date = new Date(ms); return isNaN(date) ? String(ms) : date.toLocaleTimeString("en-GB"); };
const until = (ms) => (ms === null ? "" : ` until ${clock(ms)}`);
const tone = (word) => (GOOD.has(word) ? "good" : BAD.has(word) ? "bad" : "");

function row(cells) {
  const line = document.createElement("tr");
  for (const [text, kind] of cells) {
    const cell = document.createElement("td");
    cell.textContent = text;
    cell.title = text;
    if (kind) cell.className = kind;
    line.append(cell);
  }
  return line;
}

function region(each) {
  const shut = each.closed_seconds > 0 && each.state !== "drained" ? `${Math.ceil(each.closed_seconds)} s` : "-";
  return row([
    [each.region], [`${each.provider}/${each.location}`, "mono"], [number(each.rate), "n"],
    [each.rate_now === null ? "-" : number(each.rate_now), "n"], [each.state, tone(each.state) || "warn"], [shut, "n"],
  ]);
}

function result(each) {
  const took = each.took_ms === null ? "-" : `${(each.took_ms / 1000).toFixed(3)} s`;
  return row([
    [clock(each.at)], [each.request_id, "mono"], [each.state, tone(each.state)], [took, "n"],
    [each.region ?? ""], [each.endpoint ?? each.error_code ?? "", "mono"],
  ]);
}

function levers(look) {
  const said = look.paused ? [`The fleet is paused${until(look.paused_until)}`] : [];
  for (const each of look.levers) {
    if (each.drained) said.push(`${each.region} is drained${until(each.drained_until)}`);
    if (each.rate !== null) said.push(`${each.region} has a rate of ${number(each.rate)}${until(each.rate_until)}`);
  }
  at("levers").hidden = said.length === 0;
  at("levers").replaceChildren(...said.map((text) => {
    const item = document.createElement("li");
    item.textContent = text;
    return item;
  }));
}

function ended(look) {
  const states = look.ended ? Object.entries(look.ended.per_second) : [];
  const sum = states.reduce((total, [, rate]) => total + rate, 0);
  say("rate", look.ended ? number(sum) : "-");
  const about = look.ended && !look.ended.exact ? "about " : "";
  say("rates", states.map(([state, rate]) => `${state} ${about}${number(rate)}`).join(", "));
  if (look.ended && look.at !== lastAt) {
    rates.push(sum);
    if (rates.length > POINTS_MAX) rates.shift();
  }
  lastAt = look.at;
  const top = Math.max(1, ...rates), step = 120 / (POINTS_MAX - 1), first = POINTS_MAX - rates.length;
  const points = rates.map((rate, place) => `${((first + place) * step).toFixed(1)},${(30 - 28 * rate / top).toFixed(1)}`);
  at("line").firstElementChild.setAttribute("points", points.join(" "));
}

function counts(look) {
  const depths = Object.entries(look.queue);
  const oldest = Math.max(...depths.map(([, depth]) => depth.oldest_seconds));
  say("waiting", number(depths.reduce((total, [, depth]) => total + depth.untaken, 0)));
  const named = depths.filter(([, depth]) => depth.untaken).map(([name, depth]) => `${name} ${number(depth.untaken)}`);
  say("oldest", named.length ? `${named.join(", ")}; oldest ${number(oldest)} s` : "");
  say("allocating", number(look.allocating));
  say("parked", `${number(look.parked)} parked`);
  say("condemned", number(look.condemned));
  const orphans = look.orphans ? Object.values(look.orphans).reduce((total, each) => total + each, 0) : 0;
  say("orphans", `${number(orphans)} orphans`);
  say("letters", number(look.dead_letters));
  say("cancellations", `${number(look.cancellations)} cancellations`);
  at("condemned-tile").classList.toggle("note", orphans > 0);
  at("letters-tile").classList.toggle("note", look.dead_letters > 0);
}

function status(look) {
  const isStale = Boolean(look.error) || look.age_seconds > STALE_SECONDS;
  document.body.classList.toggle("stale", isStale);
  at("amiss").hidden = !look.error;
  say("amiss", look.error ?? "");
  const age = look.age_seconds === null ? "reading" : `${Math.round(look.age_seconds)} s old`;
  say("status", isStale ? (look.age_seconds === null ? "away" : age) : look.age_seconds === null ? "reading" : "live");
  at("status").className = `chip ${isStale ? "bad" : look.age_seconds === null ? "" : "good"}`;
}

function show(look) {
  status(look);
  if (look.age_seconds === null) return;
  say("namespace", look.namespace);
  document.title = `${look.namespace} - allocator`;
  levers(look);
  counts(look);
  ended(look);
  at("regions").replaceChildren(...look.regions.map(region));
  at("results").replaceChildren(...look.results.map(result));
}

async function ask() {
  let again = EVERY_MS;
  try {
    const reply = await fetch("console.json", { cache: "no-store" });
    if (!reply.ok) throw new Error((await reply.text()).trim());
    const look = await reply.json();
    show(look);
    if (look.age_seconds === null && !look.error) again = SOON_MS;
  } catch (fault) {
    document.body.classList.add("stale");
    at("amiss").hidden = false;
    say("amiss", `The worker does not answer: ${fault.message}`);
    say("status", "away");
    at("status").className = "chip bad";
  }
  setTimeout(next, again);
}

// Who does not look need not be read for.
function next() {
  if (document.hidden) document.addEventListener("visibilitychange", ask, { once: true });
  else ask();
}

ask();
