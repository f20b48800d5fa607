"use strict";
// Everything that came with a recording is written as text (textContent), never as HTML.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const PAGE = 100, PRINTED = 2000, MOMENTS = 3;
  const [FAILED, NOT_GRADABLE, GRADED, CORRECTED] = [0, 1, 2, 3];
  const byId = (id) => document.getElementById(id);

  function make(tag, attributes = {}, ...children) {
    const svg = ["svg", "rect", "line", "text", "path", "pattern", "defs", "title", "g"].includes(tag);
    const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (value !== null && value !== undefined) node.setAttribute(name, value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  }

  // Cividis: its lightness rises all the way, so that it reads without colour too. 0 = worst, 1 = best.
  const RAMP = [[0, 32, 77], [65, 77, 107], [124, 123, 120], [185, 172, 112], [255, 234, 70]];
  function colour(score) {
    const at = Math.min(0.9999, Math.max(0, score)) * (RAMP.length - 1), low = Math.floor(at);
    return `rgb(${RAMP[low].map((x, i) => Math.round(x + (at - low) * (RAMP[low + 1][i] - x))).join(",")})`;
  }
  const clock = (seconds) => {
    const s = Math.round(seconds), minutes = Math.floor(s / 60), two = (n) => String(n).padStart(2, "0");
    return minutes < 60 ? `${minutes}:${two(s % 60)}` : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(s % 60)}`;
  };
  const figure = (steps) => (steps === null ? "–" : (steps / 10000).toFixed(2));
  const steps = data.grades ? Math.max(1, data.grades.length - 1) : 1;
  const scoreOf = (index) => 1 - index / steps; // of a grade by its place, best first

  function badge(index) {
    const score = scoreOf(index), node = make("span", { class: "grade" }, data.grades[index]);
    node.style.background = colour(score);
    node.style.color = score > 0.6 ? "#000" : "#fff";
    return node;
  }
  function stated(row) {
    const status = data.rows.status[row];
    if (status === FAILED) return make("span", { class: "none" }, "failed");
    if (status === NOT_GRADABLE) return make("span", { class: "none" }, "not gradable");
    const cell = make("span", {}, badge(data.rows.grade[row]));
    if (status === CORRECTED) cell.append(" by a person");
    return cell;
  }

  // --- the table --------------------------------------------------------------------------------------------------

  const table = byId("recordings-table");
  if (table) {
    const rows = data.rows, total = rows.name.length;
    const plain = (text) => text.normalize("NFC").toLowerCase();
    const searched = rows.name.map((name, i) => plain([name, rows.remark[i], rows.why[i]].filter(Boolean).join("\n")));
    const firstSegment = [0];
    for (const count of data.segments.count) firstSegment.push(firstSegment.at(-1) + count);
    const names = new Intl.Collator("en", { numeric: true });
    const byName = rows.name.map((_, i) => i).sort((a, b) => names.compare(rows.name[a], rows.name[b]));
    const place = [];
    byName.forEach((row, at) => { place[row] = at; });
    const isForAPerson = (row) => rows.status[row] < GRADED;
    const state = { key: "grade", down: false, page: 0, found: [] };

    // What has no figure comes first under "grade", and last under any other column.
    const keys = {
      name: (row) => place[row],
      grade: (row) => (isForAPerson(row) ? rows.status[row] - 1e6 : rows.grade[row] - (rows.score[row] || 0) / 1e5),
      score: (row) => rows.score[row],
      confidence: (row) => rows.confidence[row],
      seconds: (row) => rows.seconds[row],
    };

    function select() {
      const wanted = plain(byId("search").value.trim()), show = byId("show").value;
      const key = keys[state.key], sign = state.down ? -1 : 1;
      state.found = byName.filter((row) => searched[row].includes(wanted) && (show === "all" ||
        (show === "attention" ? isForAPerson(row) : !isForAPerson(row) && rows.grade[row] === Number(show))));
      state.found.sort((a, b) => {
        const one = key(a), other = key(b);
        if (one === null || other === null) return (one === null) - (other === null) || place[a] - place[b];
        return sign * (one - other) || place[a] - place[b];
      });
      state.page = 0;
      draw();
    }

    function line(row) {
      const name = make("button", { type: "button", class: "open", onclick: () => open(row) }, make("bdi", {}, rows.name[row]));
      return make("tr", {},
        make("td", {}, name, rows.remark[row] && make("span", { class: "remark" }, make("bdi", {}, rows.remark[row]))),
        make("td", {}, stated(row)),
        make("td", { class: "number" }, figure(rows.score[row])),
        make("td", { class: "number wide" }, figure(rows.confidence[row])),
        make("td", { class: "number wide" }, rows.seconds[row] === null ? "–" : clock(rows.seconds[row] / 100)));
    }

    function draw(all = false) {
      const first = all ? 0 : state.page * PAGE, end = Math.min(state.found.length, all ? PRINTED : first + PAGE);
      table.tBodies[0].replaceChildren(...state.found.slice(first, end).map(line));
      for (const button of table.querySelectorAll("[data-sort]")) {
        const head = button.closest("th");
        if (button.dataset.sort === state.key) head.setAttribute("aria-sort", state.down ? "descending" : "ascending");
        else head.removeAttribute("aria-sort");
      }
      const count = (n) => n.toLocaleString("en");
      byId("shown").textContent = `${count(state.found.length)} of ${count(total)} recordings`;
      byId("page").textContent = state.found.length ? `${count(first + 1)} to ${count(end)}` : "none";
      byId("back").disabled = first === 0;
      byId("on").disabled = end >= state.found.length;
    }

    for (const button of table.querySelectorAll("[data-sort]")) {
      button.addEventListener("click", () => {
        state.down = state.key === button.dataset.sort ? !state.down : false;
        state.key = button.dataset.sort;
        select();
      });
    }
    byId("search").addEventListener("input", select);
    byId("show").addEventListener("change", select);
    byId("back").addEventListener("click", () => { state.page -= 1; draw(); });
    byId("on").addEventListener("click", () => { state.page += 1; draw(); });
    addEventListener("beforeprint", () => draw(true));
    addEventListener("afterprint", () => draw());

    // --- one recording ----------------------------------------------------------------------------------------------

    const dialog = byId("detail");

    function segmentsOf(row) {
      const s = data.segments, found = [];
      for (let i = firstSegment[row]; i < firstSegment[row + 1]; i += 1) {
        const chances = s.probabilities.map((column) => column[i] / 1000);
        const score = chances.reduce((sum, p, grade) => sum + p * scoreOf(grade), 0);
        found.push({ start: s.start[i] / 100, activity: s.activity[i] / 1000, weight: s.weight[i] / 1e5, chances, score,
          silent: s.activity[i] < data.silent });
      }
      const hop = found.length > 1 ? found[1].start - found[0].start : Infinity;
      found.forEach((one) => { one.end = Math.min(one.start + hop, Math.max(one.start, rows.seconds[row] / 100)); });
      const mean = found.reduce((sum, one) => sum + one.weight * one.score, 0);
      found.forEach((one) => { one.pull = one.weight * (one.score - mean); });
      return found;
    }
    const pulled = (segments, sign) => segments.filter((one) => sign * one.pull >= 0.0005)
      .sort((a, b) => sign * (b.pull - a.pull)).slice(0, MOMENTS);

    function timeline(segments, seconds) {
      const width = Math.max(280, dialog.clientWidth - 44), left = 22, right = width - 8;
      const x = (time) => left + (right - left) * Math.min(1, time / Math.max(seconds, 1e-9));
      const TOP = 18, BARS = 100, WEIGHTS = 26, FOOT = TOP + BARS + 8 + WEIGHTS;
      const svg = make("svg", { viewBox: `0 0 ${width} ${FOOT + 22}`, height: FOOT + 22, role: "img",
        "aria-label": "Timeline: the score of each segment as a bar, silent stretches hatched, below it the weight of each in the grade; the table of segments says the same" });
      svg.append(make("defs", {}, make("pattern", { id: "silent", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
        make("line", { x1: 0, y1: 0, x2: 0, y2: 6, stroke: "#9aa2ad", "stroke-width": 2 }))));
      data.grades.forEach((grade, index) => {
        const y = TOP + BARS * (1 - scoreOf(index));
        svg.append(make("line", { x1: left, x2: right, y1: y, y2: y, stroke: "#d4d9e0" }), make("text", { x: 2, y: y + 4 }, grade));
      });
      const heaviest = Math.max(...segments.map((one) => one.weight), 1e-9);
      for (const one of segments) {
        const from = x(one.start), wide = Math.max(0.5, x(one.end) - from), tall = Math.max(2, BARS * one.score);
        const told = `${clock(one.start)}: score ${one.score.toFixed(2)}, weight ${(100 * one.weight).toFixed(1)} %, playing ${(100 * one.activity).toFixed(0)} %`;
        svg.append(make("rect", { x: from, y: TOP + BARS - tall, width: wide, height: tall, fill: colour(one.score),
          stroke: "#1b1f24", "stroke-width": 0.6, opacity: one.silent ? 0.35 : 1, class: "segment" }, make("title", {}, told)));
        if (one.silent) svg.append(make("rect", { x: from, y: TOP, width: wide, height: BARS, fill: "url(#silent)", class: "silent" }, make("title", {}, `silent. ${told}`)));
        const heavy = WEIGHTS * one.weight / heaviest;
        svg.append(make("rect", { x: from + wide * 0.15, y: FOOT - heavy, width: wide * 0.7, height: heavy, fill: "#545d68" }));
      }
      for (const [sign, mark] of [[-1, "▼"], [1, "▲"]]) {
        pulled(segments, sign).forEach((one, n) => svg.append(
          make("text", { x: (x(one.start) + x(one.end)) / 2, y: 12, "text-anchor": "middle" }, `${mark}${n + 1}`)));
      }
      const step = [5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600].find((s) => seconds / s <= width / 70) || 7200;
      for (let time = 0; time <= seconds; time += step) svg.append(make("text", { x: x(time), y: FOOT + 16, "text-anchor": "middle" }, clock(time)));
      svg.append(make("line", { x1: left, x2: right, y1: FOOT, y2: FOOT, stroke: "#868f9b" }));
      return svg;
    }

    function moments(title, segments, sign) {
      const list = pulled(segments, sign).map((one) => {
        const sounds = one.chances.indexOf(Math.max(...one.chances));
        return make("li", {}, make("b", {}, `${clock(one.start)}–${clock(one.end)}`),
          ` by ${Math.abs(one.pull).toFixed(3)}: sounds like ${data.grades[sounds]} (${one.chances[sounds].toFixed(2)})`);
      });
      return make("div", {}, make("h3", {}, title), list.length ? make("ol", {}, ...list) : make("p", {}, "None."));
    }

    function facts(row) {
      const graded = data.grades.map((grade, i) => `${grade} ${figure(rows.probabilities[i][row])}`).join(", ");
      const told = [];
      if (rows.remark[row]) told.push(make("p", { class: "warning" }, make("bdi", {}, rows.remark[row])));
      if (rows.status[row] === CORRECTED) {
        const said = rows.machine[row] === null ? "gave no grade" : `said ${data.grades[rows.machine[row]]}`;
        told.push(make("p", { class: "calm" }, "Corrected by ", make("bdi", {}, rows.by[row]), ` (${rows.corrected[row]} UTC): `,
          make("bdi", {}, rows.why[row] || "no reason given"), `. The model ${said}.`));
      }
      if (rows.score[row] !== null) told.push(make("p", {}, `Score ${figure(rows.score[row])}, confidence ${figure(rows.confidence[row])}; probabilities: ${graded}.`));
      if (rows.at[row]) told.push(make("p", { class: "note" }, `${clock(rows.seconds[row] / 100)} long; heard by model ${data.models[rows.model[row]]} at ${rows.at[row]} UTC.`));
      return told;
    }

    function segmentTable(segments) {
      const head = ["Start", ...data.grades.map((grade) => `p ${grade}`), "Playing", "Weight"];
      return make("details", {}, make("summary", {}, `The ${segments.length} segments as a table`),
        make("div", { class: "scroll", role: "region", "aria-label": "Table of segments", tabindex: 0 }, make("table", { class: "segments" },
          make("thead", {}, make("tr", {}, ...head.map((text, i) => make("th", { scope: "col", class: i ? "number" : null }, text)))),
          make("tbody", {}, ...segments.map((one) => make("tr", {}, make("td", {}, clock(one.start)),
            ...one.chances.map((p) => make("td", { class: "number" }, p.toFixed(3))),
            make("td", { class: "number" }, `${(100 * one.activity).toFixed(0)} %`),
            make("td", { class: "number" }, `${(100 * one.weight).toFixed(1)} %`)))))));
    }

    function open(row) {
      const segments = segmentsOf(row), seconds = (rows.seconds[row] || 0) / 100;
      const shown = [make("h2", { id: "detail-title" }, make("bdi", {}, rows.name[row]), " ", stated(row)),
        make("button", { type: "button", class: "close", onclick: () => dialog.close() }, "Close"), ...facts(row)];
      const drawing = make("div", {});
      if (segments.length) {
        shown.push(drawing, make("p", { class: "legend" }, make("span", {}, "worst ", make("span", { class: "ramp" }), " best"),
          make("span", {}, make("span", { class: "hatched" }), " silent: no say in the grade"), make("span", {}, "below: weight in the grade")));
        if (segments.some((one) => one.weight > 0)) {
          shown.push(make("div", { class: "moments" }, moments("▲ What raised the score most", segments, 1), moments("▼ What lowered it most", segments, -1)));
        }
        shown.push(segmentTable(segments));
      }
      dialog.replaceChildren(...shown);
      if (!dialog.open) dialog.showModal();
      const redraw = () => { if (segments.length) drawing.replaceChildren(timeline(segments, seconds)); };
      dialog.redraw = redraw;
      redraw();
    }
    addEventListener("resize", () => { if (dialog.open) dialog.redraw(); });
    select();
  }
})();
