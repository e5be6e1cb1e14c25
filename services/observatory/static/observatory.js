// What pages need beyond htmx: ages, the state of the connection, and keys.
(() => {
  "use strict";

  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

  function age(seconds) {
    const past = Math.max(0, Math.round(seconds));
    const [length, unit] = units.find(([size]) => past >= 2 * size) ?? units[3];
    return `${Math.floor(past / length)} ${unit} ago`;
  }

  // Ages are by this machine's clock: they are for reading alone.
  function ages() {
    for (const time of document.querySelectorAll("time[data-age]")) {
      const words = age((Date.now() - Date.parse(time.dateTime)) / 1000);
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

  document.addEventListener("DOMContentLoaded", () => {
    ages();
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
