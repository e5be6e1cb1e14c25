// What pages need beyond htmx: ages, the state of the connection, and keys.
(() => {
  "use strict";

  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

  const OLD = 60 * 86400;

  // How long ago; of what is older than two months, the day.
  function age(seconds, date) {
    const past = Math.max(0, Math.round(seconds));
    if (past >= OLD) return date;
    const [length, unit] = units.find(([size]) => past >= 2 * size) ?? units[3];
    return `${Math.floor(past / length)} ${unit} ago`;
  }

  // Ages are by this machine's clock: they are for reading alone.
  function ages() {
    for (const time of document.querySelectorAll("time[data-age]")) {
      const words = age((Date.now() - Date.parse(time.dateTime)) / 1000, time.dateTime.slice(0, 10));
      if (time.textContent !== words) time.textContent = words;
    }
  }

  function link(words, lost) {
    document.documentElement.classList.toggle("lost", lost);
    const shown = document.querySelector("[data-link]");
    if (shown && shown.textContent !== words) shown.textContent = words;
  }

  const goes = { n: "/", m: "/models", h: "/history", s: "/health", t: "/training", w: "/whatif" };
  let before = "";

  function key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, textarea, select")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const marked = document.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
    const search = document.getElementById("search");
    if (before === "g" && goes[event.key]) location.assign(goes[event.key]);
    else if (event.key === "/" && search) { event.preventDefault(); search.focus(); search.select(); }
    else if (marked) { event.preventDefault(); marked.click(); } // the key is not typed into what it opens
    before = event.key;
  }

  // A page without updates has no connection to lose.
  function slider() {
    const range = document.getElementById("slider"), number = document.getElementById("version");
    if (!range) return;
    range.addEventListener("input", () => {
      number.value = range.value;
      document.querySelector("[data-version]").value = range.value; // what is compared is what is shown
    });
    number.addEventListener("change", () => {
      range.value = number.value;
      range.dispatchEvent(new Event("input", { bubbles: true }));
    });
  }

  // A patch says that a result is ready; it is fetched once.
  function result() {
    const address = document.querySelector("[data-result]")?.dataset.result, holder = document.getElementById("result");
    if (!address || !holder || holder.dataset.shown === address) return;
    holder.dataset.shown = address;
    htmx.ajax("GET", address, { target: holder, swap: "innerHTML" });
  }

  // What changed on Now since this browser last showed it: kept here, since the server keeps nothing about who looks.
  const LOOKED = "conclave-looked", AWAY_MS = 15 * 60 * 1000, KEEP_MS = 30 * 1000;
  let earlier = null;

  function facts() {
    const { equity, fills, version } = document.getElementById("tiles").dataset;
    return { at: Date.now(), equity: Number(equity), fills: Number(fills), version: Number(version) };
  }

  function keep() {
    try { localStorage.setItem(LOOKED, JSON.stringify(facts())); } catch { /* a browser that keeps nothing */ }
  }

  function come() {
    try {
      const last = JSON.parse(localStorage.getItem(LOOKED));
      if (last && Date.now() - last.at > AWAY_MS) earlier = last;
    } catch { /* as above */ }
    show();
    keep();
  }

  function show() {
    const shown = document.getElementById("since");
    if (!shown || !earlier) return;
    const fresh = [...document.querySelectorAll("#side [data-at]")].filter((each) => Number(each.dataset.at) > earlier.at);
    for (const each of fresh) each.classList.add("fresh");
    const words = since(earlier, facts(), fresh.length);
    if (shown.textContent !== words) shown.textContent = words;
    shown.hidden = false;
  }

  function looking() {
    if (!document.getElementById("since")) return;
    come();
    setInterval(() => { if (!document.hidden) keep(); }, KEEP_MS);
    window.addEventListener("pagehide", keep);
    document.addEventListener("visibilitychange", () => (document.hidden ? keep() : come()));
    document.body.addEventListener("htmx:afterSettle", show);
  }

  function since(last, now, notices) {
    const gain = now.equity - last.equity, fills = now.fills - last.fills;
    const changes = [
      gain ? `equity ${gain > 0 ? "+" : "−"}${Math.abs(gain).toLocaleString("en", { maximumFractionDigits: 2 })}` : "equity the same",
      fills > 0 ? `${fills.toLocaleString("en")} fill${fills === 1 ? "" : "s"}` : "no fill",
      now.version === last.version ? "the same configuration" : `configuration ${last.version} → ${now.version}`,
      notices ? `${notices} thing${notices === 1 ? "" : "s"} happened (marked below)` : "nothing worth a notice",
    ];
    return `Since you looked ${age((now.at - last.at) / 1000, new Date(last.at).toISOString().slice(0, 10))}: ${changes.join(", ")}.`;
  }

  document.addEventListener("DOMContentLoaded", () => {
    ages();
    looking();
    slider();
    setInterval(ages, 1000);
    if (!document.getElementById("feed")) link("", false);
    document.body.addEventListener("htmx:sseOpen", () => link("live", false));
    document.body.addEventListener("htmx:sseError", () => link("connection lost, trying again", true));
    for (const name of ["htmx:sseMessage", "htmx:afterSettle", "htmx:oobAfterSwap"]) document.body.addEventListener(name, ages);
    document.body.addEventListener("htmx:sseMessage", result);
    document.addEventListener("keydown", key);
  });
})();
