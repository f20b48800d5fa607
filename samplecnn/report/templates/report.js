"use strict";
// Everything that came with a recording is written as text (textContent), never as HTML.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const PAGE = 100, PRINTED = 2000, MOMENTS = 3, LEVEL_S = 0.5;
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
        (show === "night" ? rows.night[row] : show === "attention" ? isForAPerson(row) : !isForAPerson(row) && rows.grade[row] === Number(show))));
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

    // A letter a level, of the 64 of Base64: A is -63 dBFS or less, / is 0 or more.
    const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    function levelsOf(row, number) {
      const letters = data.segments.levels[row], each = letters.length / data.segments.count[row];
      return [...letters.slice(number * each, (number + 1) * each)].map((letter) => LETTERS.indexOf(letter) - 63);
    }

    function segmentsOf(row) {
      const s = data.segments, found = [];
      for (let i = firstSegment[row]; i < firstSegment[row + 1]; i += 1) {
        const chances = s.probabilities.map((column) => column[i] / 1000);
        const score = chances.reduce((sum, p, grade) => sum + p * scoreOf(grade), 0);
        found.push({ start: s.start[i] / 100, activity: s.activity[i] / 1000, weight: s.weight[i] / 1e5, chances, score,
          silent: s.activity[i] < data.silent, levels: levelsOf(row, i - firstSegment[row]) });
      }
      const hop = found.length > 1 ? found[1].start - found[0].start : Infinity;
      found.forEach((one) => { one.end = Math.min(one.start + hop, Math.max(one.start, rows.seconds[row] / 100)); });
      const mean = found.reduce((sum, one) => sum + one.weight * one.score, 0);
      found.forEach((one) => { one.pull = one.weight * (one.score - mean); });
      return found;
    }
    const pulled = (segments, sign) => segments.filter((one) => sign * one.pull >= 0.0005)
      .sort((a, b) => sign * (b.pull - a.pull)).slice(0, MOMENTS);

    // How loud it is, mirrored: drawn as amplitude, its square root so that soft playing is seen.
    function drawWave(svg, one, x, middle, half, loudest) {
      const shown = one.levels.slice(0, Math.ceil((one.end - one.start) / LEVEL_S));
      if (!shown.length) return;
      const points = shown.map((level, i) => [x(Math.min(one.end, one.start + (i + 0.5) * LEVEL_S)), half * 10 ** ((level - loudest) / 40)]);
      const from = x(one.start), to = x(one.end);
      const upper = points.map(([at, tall]) => `${at.toFixed(1)},${(middle - tall).toFixed(1)}`);
      const lower = points.map(([at, tall]) => `${at.toFixed(1)},${(middle + tall).toFixed(1)}`).reverse();
      const [first, last] = [points[0][1], points.at(-1)[1]];
      svg.append(make("path", { class: "wave", fill: one.silent ? "#b4bac2" : colour(one.score), stroke: "#1b1f24", "stroke-width": 0.5,
        d: `M${from},${middle - first}L${upper.join("L")}L${to},${middle - last}L${to},${middle + last}L${lower.join("L")}L${from},${middle + first}Z` }));
    }

    function timeline(segments, seconds) {
      const width = Math.max(280, dialog.clientWidth - 44), left = 22, right = width - 8;
      const x = (time) => left + (right - left) * Math.min(1, time / Math.max(seconds, 1e-9));
      const hasLevels = segments.some((one) => one.levels.length);
      const TOP = 18, BARS = 90, WAVE = hasLevels ? 64 : 0, WEIGHTS = 22, FOOT = TOP + BARS + WAVE + 12 + WEIGHTS;
      const svg = make("svg", { viewBox: `0 0 ${width} ${FOOT + 22}`, height: FOOT + 22, role: "img",
        "aria-label": "Timeline: the score of each segment as a bar, silent stretches hatched, below it the sound and the weight of each in the grade; the table of segments says the same" });
      svg.append(make("defs", {}, make("pattern", { id: "silent", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
        make("line", { x1: 0, y1: 0, x2: 0, y2: 6, stroke: "#9aa2ad", "stroke-width": 2 }))));
      data.grades.forEach((grade, index) => {
        const y = TOP + BARS * (1 - scoreOf(index));
        svg.append(make("line", { x1: left, x2: right, y1: y, y2: y, stroke: "#d4d9e0" }), make("text", { x: 2, y: y + 4 }, grade));
      });
      // Not Math.max(...all): of hours of segments they are more arguments than a call may have.
      const loudest = segments.reduce((most, one) => one.levels.reduce((m, level) => Math.max(m, level), most), -60);
      const heaviest = segments.reduce((most, one) => Math.max(most, one.weight), 1e-9);
      for (const one of segments) {
        const from = x(one.start), wide = Math.max(0.5, x(one.end) - from), tall = Math.max(2, BARS * one.score);
        const told = `${clock(one.start)}: score ${one.score.toFixed(2)}, weight ${(100 * one.weight).toFixed(1)} %, playing ${(100 * one.activity).toFixed(0)} %`;
        svg.append(make("rect", { x: from, y: TOP + BARS - tall, width: wide, height: tall, fill: colour(one.score),
          stroke: "#1b1f24", "stroke-width": 0.6, opacity: one.silent ? 0.35 : 1, class: "segment" }, make("title", {}, told)));
        if (one.silent) svg.append(make("rect", { x: from, y: TOP, width: wide, height: BARS, fill: "url(#silent)", class: "silent" }, make("title", {}, `silent. ${told}`)));
        drawWave(svg, one, x, TOP + BARS + 6 + WAVE / 2, WAVE / 2 - 2, loudest);
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

    function moments(title, segments, sign, player) {
      const list = pulled(segments, sign).map((one) => {
        const sounds = one.chances.indexOf(Math.max(...one.chances));
        const times = `${clock(one.start)}–${clock(one.end)}`;
        return make("li", {}, player ? make("button", { type: "button", class: "play", "aria-label": `play ${times}`,
          onclick: () => { player.currentTime = one.start; player.play().catch(() => {}); } }, `▶ ${times}`) : make("b", {}, times),
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
        const mark = rows.mark[row] === null ? "" : `, mark ${rows.mark[row]}`;
        told.push(make("p", { class: "calm" }, "Corrected by ", make("bdi", {}, rows.by[row]), `${mark} (${rows.corrected[row]} UTC): `,
          make("bdi", {}, rows.why[row] || "no reason given"), `. The model ${said}.`));
      }
      if (rows.score[row] !== null) told.push(make("p", {}, `Score ${figure(rows.score[row])}, confidence ${figure(rows.confidence[row])}; probabilities: ${graded}.`));
      if (rows.at[row] && rows.seconds[row]) told.push(make("p", { class: "note" }, `${clock(rows.seconds[row] / 100)} long; heard by model ${data.models[rows.model[row]]} at ${rows.at[row]} UTC.`));
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
      const drawing = make("div", {}), address = rows.audio && rows.audio[row];
      const player = address ? make("audio", { controls: "", preload: "none", src: address, "aria-label": `Player of ${rows.name[row]}`,
        onerror: () => player.after(make("p", { class: "none" }, "The recording cannot be played from here: it was moved, or this browser may not have it.")) }) : null;
      if (segments.length) {
        shown.push(drawing, ...(player ? [player] : []), make("p", { class: "legend" }, make("span", {}, "worst ", make("span", { class: "ramp" }), " best"),
          make("span", {}, make("span", { class: "hatched" }), " silent: no say in the grade"), make("span", {}, "below: weight in the grade")));
        if (segments.some((one) => one.weight > 0)) {
          shown.push(make("div", { class: "moments" }, moments("▲ What raised the score most", segments, 1, player), moments("▼ What lowered it most", segments, -1, player)));
        }
        shown.push(segmentTable(segments));
      }
      dialog.replaceChildren(...shown);
      if (!dialog.open) dialog.showModal();
      const redraw = () => { if (segments.length) drawing.replaceChildren(timeline(segments, seconds)); };
      dialog.redraw = redraw;
      redraw();
    }
    dialog.addEventListener("close", () => dialog.replaceChildren()); // and the sound stops
    addEventListener("resize", () => { if (dialog.open) dialog.redraw(); });
    select();

    // --- every segment as a dot ---------------------------------------------------------------------------------------

    const rowOf = [];
    data.segments.count.forEach((count, row) => { for (let i = 0; i < count; i += 1) rowOf.push(row); });
    const NOT_GRADED = "#c3c9d1";
    const gradeColour = (row) => (isForAPerson(row) ? NOT_GRADED : colour(scoreOf(rows.grade[row])));

    // A canvas of dots: places() gives [x, y, segment, is it its whole recording?], from 0 to 1; nearest to the mouse is told and opened.
    function dots(id, height, places, decorate) {
      const canvas = byId(id), told = byId(`${id}-told`), MARGIN = 14, NEAR = 12;
      let drawn = [];
      function redraw() {
        const width = canvas.clientWidth, scale = devicePixelRatio || 1, tall = height(width);
        canvas.width = width * scale;
        canvas.height = tall * scale;
        canvas.style.height = `${tall}px`;
        const pen = canvas.getContext("2d");
        pen.scale(scale, scale);
        drawn = places().map(([x, y, ...what]) => [MARGIN + x * (width - 2 * MARGIN), MARGIN + y * (tall - 2 * MARGIN), ...what]);
        if (decorate) decorate(pen, width, tall, MARGIN);
        const size = drawn.length > 20000 ? 1.2 : drawn.length > 3000 ? 2 : 3.5;
        pen.lineWidth = 0.5;
        pen.strokeStyle = "#1b1f24";
        for (const [x, y, segment] of drawn) {
          pen.beginPath();
          pen.arc(x, y, size, 0, 7);
          pen.fillStyle = gradeColour(rowOf[segment]);
          pen.fill();
          if (size > 2) pen.stroke();
        }
      }
      function nearest(event) {
        const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
        let found = null, least = NEAR * NEAR;
        for (const dot of drawn) {
          const away = (dot[0] - x) ** 2 + (dot[1] - y) ** 2;
          if (away < least) [least, found] = [away, dot];
        }
        return found && found.slice(2);
      }
      canvas.addEventListener("mousemove", (event) => {
        const found = nearest(event);
        if (!found) return told.replaceChildren();
        const [segment, whole] = found, row = rowOf[segment];
        const where = whole ? ": " : ` at ${clock(data.segments.start[segment] / 100)}: `;
        return told.replaceChildren(make("bdi", {}, rows.name[row]), where, stated(row));
      });
      canvas.addEventListener("click", (event) => {
        const found = nearest(event);
        if (found) open(rowOf[found[0]]);
      });
      addEventListener("resize", redraw);
      redraw();
      return redraw;
    }

    if (byId("strip")) {
      const lanes = data.grades.length;
      const spread = (i) => ((i * 0.618034) % 1); // the golden ratio: even, and the same each time
      const graded = rowOf.map((row, i) => i).filter((i) => !isForAPerson(rowOf[i]) && data.segments.activity[i] >= data.silent);
      const places = () => {
        const column = data.segments.probabilities[Number(byId("strip-grade").value)];
        return graded.map((i) => [column[i] / 1000, (rows.grade[rowOf[i]] + 0.15 + 0.7 * spread(i)) / lanes, i]);
      };
      byId("strip-grade").addEventListener("change", dots("strip", () => 70 * lanes + 28, places, (pen, width, tall, margin) => {
        pen.fillStyle = "#545d68";
        pen.font = "12px system-ui, sans-serif";
        pen.strokeStyle = "#d4d9e0";
        data.grades.forEach((grade, index) => {
          const y = margin + (tall - 2 * margin) * index / lanes;
          if (index) { pen.beginPath(); pen.moveTo(0, y); pen.lineTo(width, y); pen.stroke(); }
          pen.fillText(`recordings graded ${grade}`, 6, y + 2);
        });
        pen.fillText("0", margin - 3, tall - 2);
        pen.fillText("1", width - margin - 3, tall - 2);
      }));
      byId("map-legend").append(...data.grades.map((grade, index) => make("span", {}, badge(index), ` recordings graded ${grade}`)));
    }
    if (byId("map")) {
      const places = () => {
        const whole = byId("map-kind").value === "recordings";
        const [x, y] = whole ? data.map.recordings.places : data.map.places[byId("map-kind").value];
        const segments = whole ? data.map.recordings.first : data.map.segment;
        return segments.map((segment, i) => [x[i] / 1000, 1 - y[i] / 1000, segment, whole]);
      };
      byId("map-kind").addEventListener("change", dots("map", (width) => Math.min(520, width * 0.75), places));
    }
  }
})();
