// Draws the curves and the browser of responses of a report from the JSON in #data.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const runColour = (number) => colour(`--run-${number % 6}`);
  const alone = data.runs.length === 1;
  const each = data.runs.length <= 4 ? data.runs : []; // runs that have charts of their own
  const WINDOW = 10; // steps that a smooth curve is the mean of

  const charts = []; // what makes each chart again, for another colour scheme

  const mark = (step, height, line) => ({ type: "line", x0: step, x1: step, yref: "paper", y0: 0, y1: height, line });

  let size = {}; // of each chart, where the page does not say it

  function layout(unit, more) {
    const axis = { gridcolor: colour("--line"), zerolinecolor: colour("--line"), automargin: true };
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: colour("--ink"), size: 12 },
      margin: { l: 48, r: 12, t: 8, b: 36 }, hovermode: "x unified",
      hoverlabel: { bgcolor: colour("--paper"), bordercolor: colour("--line"), font: { color: colour("--ink") } },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, xanchor: "left" }, showlegend: true,
      xaxis: { ...axis, title: { text: "step", standoff: 4 } },
      yaxis: { ...axis, rangemode: "tozero", tickformat: unit === "share" ? ".3~%" : undefined },
      shapes: data.runs.flatMap((run, number) => [
        ...run.starts.map((step) => mark(step, 1, { color: runColour(number), width: 1, dash: "dot" })),
        ...run.checkpoints.map((step) => mark(step, 0.03, { color: runColour(number), width: 2 }))]),
      ...size, ...more,
    };
  }

  function add(parent, title, unit, traces, more) {
    const found = traces();
    if (!found.length) return;
    const figure = document.getElementById(parent).appendChild(document.createElement("figure"));
    figure.appendChild(document.createElement("figcaption")).textContent = title;
    const plot = figure.appendChild(document.createElement("div"));
    const options = { responsive: true, displaylogo: false, displayModeBar: false };
    charts.push(() => Plotly.react(plot, traces(), layout(unit, more), options));
  }

  function smooth(values, size) {
    const width = Math.max(1, Math.round(WINDOW / size));
    return values.map((value, at) => {
      if (value === null) return null;
      const near = values.slice(Math.max(0, at - width + 1), at + 1).filter((v) => v !== null);
      return near.reduce((sum, v) => sum + v, 0) / near.length;
    });
  }

  const isLong = (run) => run.steps.length > 4 * WINDOW;

  function line(run, values, name, stroke) {
    const shown = { x: run.steps, type: "scatter", mode: "lines", connectgaps: false };
    const long = isLong(run);
    const main = { ...shown, y: long ? smooth(values, run.neighbours) : values, name, line: { color: stroke, width: 2 },
      customdata: values, hovertemplate: long ? "%{y:.4~g} (%{customdata:.4~g})" : "%{y:.4~g}" };
    if (run.steps.length === 1) main.mode = "markers";
    return long ? [{ ...shown, y: values, line: { color: stroke, width: 1 }, opacity: 0.3, hoverinfo: "skip", showlegend: false }, main] : [main];
  }

  function overlay(figure) {
    const about = data.figures[figure];
    add("charts", about.title + (about.unit && about.unit !== "share" ? `, ${about.unit}` : ""), about.unit, () =>
      data.runs.flatMap((run, number) => run.figures[figure] ? line(run, run.figures[figure], run.name, runColour(number)) : []),
      { showlegend: !alone && data.runs.length <= 12 });
  }

  function parts(run, title, figures, unit, stacked) {
    const strokes = ["--run-2", "--run-0", "--run-3", "--run-1", "--run-4", "--run-5"];
    add("charts", alone ? title : `${title}: ${run.name}`, unit, () => figures.filter((f) => run.figures[f]).flatMap((f, at) => {
      const stroke = colour(strokes[at % strokes.length]);
      if (!stacked) return line(run, run.figures[f], data.figures[f].title, stroke);
      return [{ x: run.steps, y: run.figures[f], name: data.figures[f].title, stackgroup: "one", mode: "lines",
        line: { width: 0.5, color: stroke }, hovertemplate: "%{y:.4~g}" }];
    }));
  }

  function histogram() {
    const kept = data.samples.filter((one) => one.tokens && one.split === "validation");
    add("charts", "lengths of validation responses, tokens", "", () => data.runs.flatMap((run, number) => {
      const mine = kept.filter((one) => one.run === number);
      const steps = [...new Set(mine.map((one) => one.step))].sort((a, b) => a - b);
      const ends = steps.length > 1 && each.length ? [steps[0], steps[steps.length - 1]] : steps.slice(-1);
      return ends.map((step, at) => ({ type: "histogram", x: mine.filter((one) => one.step === step).map((one) => one.tokens),
        name: `${alone ? "" : `${run.name} `}step ${step}`, nbinsx: 30, opacity: ends.length > 1 && at === 0 ? 0.45 : 0.75,
        marker: { color: alone ? colour(at ? "--run-0" : "--run-1") : runColour(number) } }));
    }), { barmode: "overlay", shapes: [], hovermode: "closest", xaxis: { title: { text: "tokens", standoff: 4 }, gridcolor: colour("--line"), automargin: true } });
  }

  function validation() {
    const sets = [...new Set(data.runs.flatMap((run) => Object.keys(run.validation.sets)))].sort();
    for (const set of sets) {
      add("validation", `accuracy, ${set || "all sets together"}`, "share", () => data.runs.flatMap((run, number) => {
        const found = (run.validation.sets[set] || {}).accuracy;
        return found ? [{ x: run.validation.steps, y: found, name: run.name, type: "scatter", mode: "lines+markers",
          connectgaps: true, line: { color: runColour(number), width: 2 }, hovertemplate: "%{y:.2%}" }] : [];
      }), { showlegend: !alone && data.runs.length <= 12 });
    }
  }

  function sources() {
    for (const [number, run] of each.entries()) {
      const names = Object.keys(run.sources);
      if (names.length) add("charts", `reward by source${alone ? "" : `: ${run.name}`}`, "", () => names.flatMap((name, at) =>
        run.sources[name].reward ? line(run, run.sources[name].reward, name, runColour(number + at)) : []));
    }
  }

  function curves() {
    const thinned = Math.max(...data.runs.map((run) => run.neighbours));
    const said = [];
    if (data.runs.some(isLong)) said.push(`Bold: mean of the last ${WINDOW} steps; thin: each ${thinned > 1 ? `mean of ${thinned} steps` : "step"}.`);
    if (data.runs.some((run) => run.starts.length)) said.push("Dotted: a later start of the driver, after a resume.");
    if (data.runs.some((run) => run.checkpoints.length)) said.push("Ticks at the foot: checkpoints that are still there.");
    document.getElementById("about-curves").textContent = data.runs.some((run) => run.steps.length) ? said.join(" ") : "No step was measured.";
    if (!alone) ["reward", "outcome", "rubric"].forEach(overlay);
    for (const run of each) parts(run, "reward and its parts", ["reward", "outcome", "rubric"], "");
    for (const run of each) parts(run, "groups", ["mixed", "all_one", "all_zero"], "share", true);
    if (!each.length) ["mixed", "all_one", "all_zero", "truncated", "ill_formed", "seconds"].forEach(overlay);
    overlay("response_tokens");
    overlay("longest_response_tokens");
    histogram();
    for (const run of each) parts(run, "responses that earn nothing", ["truncated", "ill_formed", "unjudged"], "share");
    ["entropy", "grad_norm", "kl", "rollout_kl", "ratio", "out_of_band", "logprob_error", "tokens_per_second"].forEach(overlay);
    for (const run of each) parts(run, "time of a step, s", ["generation_seconds", "training_seconds", "reward_seconds", "checkpoint_seconds"], "", true);
    sources();
    validation();
  }

  // --- responses -------------------------------------------------------------------------------------------------

  const make = (tag, text, attributes) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    for (const [name, value] of Object.entries(attributes || {})) element.setAttribute(name, value);
    return element;
  };

  const key = (one) => `${one.run} ${one.set || ""} ${one.sample}`;
  const verdict = (one) => one.outcome === undefined ? ["unjudged", "?"] : one.outcome ? ["right", "✓"] : ["wrong", "✗"];

  function changed() {
    const answers = new Map();
    for (const one of data.samples) {
      if (one.split !== "validation") continue;
      const known = answers.get(key(one)) || new Set();
      answers.set(key(one), known.add(one.outcome));
    }
    return (one) => one.split === "validation" && answers.get(key(one)).size > 1;
  }

  function marked(one) {
    const block = make("pre");
    let at = 0;
    for (const [begin, end, entity] of one.marks || []) {
      block.append(one.response.slice(at, begin));
      block.append(make("mark", one.response.slice(begin, end), { style: `--hue:${(entity * 137) % 360}`, title: one.entities[entity] }));
      at = end;
    }
    block.append((one.response || "").slice(at));
    return block;
  }

  function facts(one) {
    const list = make("dl");
    const row = (name, content) => {
      if (content === undefined || content === "") return;
      const cell = make("dd");
      cell.append(content);
      list.append(make("dt", name), cell);
    };
    const number = (value) => value === undefined ? undefined : String(+value.toFixed(4));
    const [word] = verdict(one);
    row("question", one.question);
    row("right answer", one.label);
    row("answer is", make("b", word, { class: word }));
    row("reward", number(one.reward));
    row("evidence recall", number(one.rubric));
    for (const [name, value] of Object.entries(one.parts || {})) row(name, number(value));
    row("nothing paid because", one.zeroed);
    row("the judge says", one.judge);
    row("ended", one.status);
    row("tokens", one.tokens === undefined ? undefined : one.tokens.toLocaleString("en"));
    if (one.entities) {
      const named = new Set((one.marks || []).map((mark) => mark[2]));
      const cell = make("span");
      one.entities.forEach((entity, at) => {
        if (at) cell.append(", ");
        cell.append(named.has(at) ? make("mark", entity, { style: `--hue:${(at * 137) % 360}` }) : `${entity} (not named)`);
      });
      row("gold entities", cell);
    }
    row("sample", [one.set, one.sample].filter(Boolean).join(" / "));
    return list;
  }

  function browser() {
    const home = document.getElementById("samples");
    if (!data.samples.length) {
      home.append(make("p", "No responses were kept.", { class: "soft" }));
      return;
    }
    const isChanged = changed();
    const controls = home.appendChild(make("div", undefined, { class: "controls" }));
    const choice = (name, options) => {
      const label = controls.appendChild(make("label", `${name} `));
      const select = label.appendChild(make("select", undefined, { "aria-label": name }));
      for (const [value, text] of options) select.append(make("option", text, { value }));
      select.addEventListener("change", list);
      return select;
    };
    const run = alone ? { value: "" } : choice("run", [["", "all"], ...data.runs.map((one, at) => [at, one.name])]);
    const split = choice("of", [["", "both"], ["validation", "validation"], ["train", "training"]]);
    const steps = [...new Set(data.samples.map((one) => one.step))].sort((a, b) => a - b);
    const step = choice("step", [["", "all"], ...steps.map((one) => [one, one])]);
    const order = choice("show", [["best", "best first"], ["worst", "worst first"], ["changed", "answers that changed"], ["step", "by step"]]);
    const search = controls.appendChild(make("input", undefined, { type: "search", placeholder: "search", "aria-label": "search" }));
    search.addEventListener("input", list);
    const count = controls.appendChild(make("span", "", { class: "soft" }));
    const both = home.appendChild(make("div", undefined, { class: "both" }));
    const shown = both.appendChild(make("ol"));
    const detail = both.appendChild(make("div"));
    if (data.samples_left_out) home.append(make("p", `${data.samples_left_out.toLocaleString("en")} responses more are in the runs' excerpts.jsonl; they are left out here to keep the page small.`, { class: "soft" }));

    function show(one, button) {
      for (const other of shown.querySelectorAll("[aria-current]")) other.removeAttribute("aria-current");
      button.setAttribute("aria-current", "true");
      detail.replaceChildren(facts(one), marked(one));
      const others = data.samples.filter((other) => other !== one && key(other) === key(one));
      if (others.length) {
        detail.append(make("h3", "the same prompt at other steps"));
        for (const other of others) {
          const fold = detail.appendChild(make("details"));
          const [word, sign] = verdict(other);
          fold.append(make("summary", `step ${other.step} ${sign} ${word}`));
          fold.addEventListener("toggle", () => { if (fold.childElementCount === 1) fold.append(facts(other), marked(other)); });
        }
      }
    }

    function list() {
      const words = search.value.toLowerCase();
      const paid = (one) => one.reward === undefined ? -1 : one.reward;
      const found = data.samples.filter((one) => (run.value === "" || one.run === +run.value)
        && (!split.value || one.split === split.value) && (step.value === "" || one.step === +step.value)
        && (order.value !== "changed" || isChanged(one))
        && (!words || `${one.question} ${one.label} ${one.response}`.toLowerCase().includes(words)));
      const orders = { best: (a, b) => paid(b) - paid(a) || b.step - a.step, worst: (a, b) => paid(a) - paid(b) || b.step - a.step,
        changed: (a, b) => key(a).localeCompare(key(b)) || a.step - b.step, step: (a, b) => a.step - b.step };
      found.sort(orders[order.value]);
      count.textContent = `${found.length.toLocaleString("en")} responses`;
      const rows = found.slice(0, 500).map((one) => {
        const [word, sign] = verdict(one);
        const item = make("li");
        const button = item.appendChild(make("button", undefined, { type: "button" }));
        button.append(make("span", `${sign} `, { class: word }), `${one.step} · ${one.reward === undefined ? "–" : one.reward.toFixed(2)} · ${one.question || one.sample}`);
        button.addEventListener("click", () => show(one, button));
        item.one = one;
        return item;
      });
      shown.replaceChildren(...rows);
      if (rows.length) show(rows[0].one, rows[0].firstChild); else detail.replaceChildren();
    }
    list();
  }

  curves();
  browser();
  const draw = () => charts.forEach((one) => one());
  draw(); // when every one has its place
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  const onPaper = (isOn) => { // two in a row of the narrowest paper, dark on light
    document.documentElement.classList.toggle("paper", isOn);
    size = isOn ? { width: 340, height: 230 } : {};
    draw();
  };
  window.addEventListener("beforeprint", () => onPaper(true));
  window.addEventListener("afterprint", () => onPaper(false));
  document.documentElement.dataset.drawn = "true";
})();
