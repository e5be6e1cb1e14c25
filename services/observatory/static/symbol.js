// The chart of one series: candles with decisions, fills and holes, and the lean of each model below them.
(() => {
  "use strict";

  const holder = document.getElementById("chart"), hover = document.getElementById("hover");
  const Charts = window.LightweightCharts;
  const hues = ["#d0661f", "#7a4cb8", "#0b8a8b", "#b0356f", "#4a7d1e", "#8a6d00", "#3566c9", "#a0522d"];
  const kept = { bars: new Map(), decisions: new Map(), orders: [], holes: [] };
  const lines = new Map();
  const seconds = (milliseconds) => Math.floor(milliseconds / 1000);
  const price = (value) => value.toFixed(Math.abs(value) >= 100 ? 2 : Math.abs(value) >= 1 ? 3 : 6); // as on the pages
  const lean = (one) => one.buy - one.sell;

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  }

  function options() {
    return {
      autoSize: true,
      layout: { background: { color: colour("panel") }, textColor: colour("soft"), attributionLogo: false, panes: { separatorColor: colour("faint") } },
      grid: { vertLines: { visible: false }, horzLines: { color: colour("faint") } },
      timeScale: { timeVisible: true, secondsVisible: false, borderColor: colour("faint") },
      rightPriceScale: { borderColor: colour("faint") },
      localization: { locale: "en-GB", timeFormatter: (time) => new Date(time * 1000).toISOString().slice(0, 16).replace("T", " ") },
    };
  }

  function candleOptions() {
    const up = colour("buy"), down = colour("sell");
    return { upColor: up, wickUpColor: up, borderUpColor: up, downColor: down, wickDownColor: down, borderDownColor: down };
  }

  const chart = Charts.createChart(holder, options());
  const candles = chart.addSeries(Charts.CandlestickSeries, candleOptions(), 0);
  const marks = Charts.createSeriesMarkers(candles, []);
  const pooled = chart.addSeries(Charts.LineSeries, { color: colour("ink"), lineWidth: 2, priceLineVisible: false, lastValueVisible: false, title: "" }, 1);
  pooled.createPriceLine({ price: 0, color: colour("soft"), lineWidth: 1, lineStyle: 2, axisLabelVisible: false, title: "" });

  function nameOf(member) {
    return member.shadow ? `${member.model} ${member.artifact}` : member.model;
  }

  function lineOf(member) {
    const name = nameOf(member);
    if (!lines.has(name)) {
      const shade = hues[lines.size % hues.length];
      const series = chart.addSeries(Charts.LineSeries, {
        color: shade, lineWidth: 1, lineStyle: member.shadow ? 2 : 0, priceLineVisible: false, lastValueVisible: false, crosshairMarkerVisible: false,
      }, 1);
      lines.set(name, { series, shade, shadow: member.shadow, points: [] });
      toggle(name, shade, member.shadow);
    }
    return lines.get(name);
  }

  function toggle(name, shade, shadow) {
    const label = document.createElement("label"), box = document.createElement("input");
    box.type = "checkbox";
    box.checked = true;
    box.addEventListener("change", () => lines.get(name).series.applyOptions({ visible: box.checked }));
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg"), line = document.createElementNS("http://www.w3.org/2000/svg", "line");
    svg.setAttribute("viewBox", "0 0 18 8");
    svg.setAttribute("aria-hidden", "true");
    for (const [key, value] of Object.entries({ x1: 0, x2: 18, y1: 4, y2: 4, stroke: shade, ...(shadow ? { "stroke-dasharray": "4 3" } : {}) })) line.setAttribute(key, value);
    svg.append(line);
    label.append(box, svg, shadow ? `${name} (shadow)` : name);
    document.getElementById("members").append(label);
  }

  function markers() {
    const found = [];
    const traded = new Set(kept.orders.filter((one) => one.kind === "placed").map((one) => one.decision));
    for (const [time, one] of kept.decisions) {
      if (one.intent !== "issued" || !kept.bars.has(time)) continue;
      const buy = one.action === "BUY", ordered = traded.has(one.id);
      const shade = ordered ? (buy ? "buy-ink" : "sell-ink") : "hold";
      found.push({ time, position: buy ? "belowBar" : "aboveBar", shape: buy ? "arrowUp" : "arrowDown", color: colour(shade), size: ordered ? 1.4 : 0.4 });
    }
    for (const one of kept.orders) {
      const time = seconds(one.open_time);
      if (one.kind === "filled" && kept.bars.has(time)) found.push({ time, position: one.side === "BUY" ? "belowBar" : "aboveBar", shape: "circle", size: 0.7, color: colour("ink") });
    }
    for (const one of kept.holes) {
      const after = seconds(one.first + one.count * Number(holder.dataset.interval));
      if (kept.bars.has(after)) found.push({ time: after, position: "inBar", shape: "square", color: colour("warn"), text: `◆ ${one.count}` });
    }
    marks.setMarkers(found.sort((a, b) => a.time - b.time));
  }

  function add(screen) {
    for (const bar of screen.bars) kept.bars.set(seconds(bar.open_time), { ...bar, time: seconds(bar.open_time) });
    for (const one of screen.decisions) kept.decisions.set(seconds(one.open_time), one);
    const known = new Set(kept.orders.map((one) => `${one.at} ${one.kind} ${one.decision}`));
    kept.orders.push(...screen.orders.filter((one) => !known.has(`${one.at} ${one.kind} ${one.decision}`)));
    kept.holes = screen.holes;
    const times = [...kept.bars.keys()].sort((a, b) => a - b);
    for (const time of times.slice(0, Math.max(0, times.length - 300))) { kept.bars.delete(time); kept.decisions.delete(time); }
    candles.setData(times.slice(-300).map((time) => kept.bars.get(time)));
    const decided = [...kept.decisions].filter(([time]) => kept.bars.has(time)).sort(([a], [b]) => a - b);
    pooled.setData(decided.map(([time, one]) => (one.intent === "no_quorum" ? { time } : { time, value: lean(one) })));
    for (const line of lines.values()) line.points = [];
    for (const [time, one] of decided) for (const member of one.members) lineOf(member).points.push({ time, value: lean(member) });
    for (const line of lines.values()) line.series.setData(line.points);
    markers();
  }

  function describe(time) {
    const one = kept.decisions.get(time), bar = kept.bars.get(time);
    if (!bar) return;
    hover.replaceChildren();
    const when = new Date(time * 1000).toISOString().slice(0, 16).replace("T", " ");
    hover.append(`${when}  O ${price(bar.open)} H ${price(bar.high)} L ${price(bar.low)} C ${price(bar.close)}. `);
    if (!one) { hover.append("No decision that is kept."); return; }
    const link = document.createElement("a");
    link.href = `/decision/${one.id}`;
    link.textContent = one.intent === "no_quorum" ? "No quorum" : `${one.action} ${one.confidence.toFixed(2)}`;
    hover.append(link, `, ${one.consensus} of ${one.total} agree, intent ${one.intent.replaceAll("_", " ")}. `);
    hover.append(one.members.map((member) => `${nameOf(member)} ${member.action} ${member[member.action.toLowerCase()].toFixed(2)}`).join(", "));
  }

  async function load() {
    const last = Math.max(-1, ...[...kept.bars.values()].slice(-3, -2).map((bar) => bar.open_time));
    const answer = await fetch(`/api/v1/symbol?${new URLSearchParams({ name: holder.dataset.name, after: last })}`);
    if (answer.ok) add(await answer.json());
  }

  function restyle() {
    chart.applyOptions(options());
    candles.applyOptions(candleOptions());
    pooled.applyOptions({ color: colour("ink") });
    markers();
  }

  chart.subscribeCrosshairMove((at) => { if (at.time) describe(at.time); });
  chart.subscribeClick((at) => { const one = kept.decisions.get(at.time); if (one) location.assign(`/decision/${one.id}`); });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", restyle);
  document.body.addEventListener("htmx:sseMessage", load);
  load().then(() => {
    chart.panes()[1]?.setStretchFactor(0.6);
    chart.timeScale().fitContent();
    describe([...kept.bars.keys()].pop());
  });
})();
