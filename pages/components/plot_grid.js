// A grid of live plots: keeps each chart and gives plotly the new data, so that zoom, tooltips and clicks survive a poll.
// data (bytes of JSON): {cards: [{key, title, values, definition, reading, not_broken, linear, several, data, layout}], template, compact, words}.
// A card with still: true has no steps on its x-axis, so that a click in it means nothing.
// Texts only ever become text nodes.

const CONFIG = { displayModeBar: false, responsive: false, doubleClick: "reset", showTips: false };

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text) node.textContent = text;
  return node;
}

function buildCard(card, state) {
  const root = element("section", "pg-card");
  root.dataset.metric = card.key;
  const head = root.appendChild(element("div", "pg-head"));
  const title = head.appendChild(element("span", "pg-title"));
  const remark = head.appendChild(element("span", "pg-muted"));
  const info = head.appendChild(element("button", "pg-info", "i"));
  info.type = "button";
  const values = head.appendChild(element("span", "pg-values"));
  const note = root.appendChild(element("div", "pg-note"));
  note.hidden = true;
  info.setAttribute("aria-expanded", "false");
  info.addEventListener("click", () => {
    const open = note.hidden;
    state.closeNotes();
    note.hidden = !open;
    info.setAttribute("aria-expanded", String(open));
  });
  const wait = root.appendChild(element("div", "pg-wait"));
  const plot = root.appendChild(element("div", "pg-plot"));
  plot.setAttribute("role", "figure");
  return { root, title, remark, info, values, note, wait, plot, drawn: "", next: null, busy: false, gone: false };
}

function fillTexts(slot, card, words) {
  slot.title.textContent = card.title;
  slot.remark.textContent = card.linear ? words.linear : "";
  slot.remark.title = card.linear;
  slot.info.setAttribute("aria-label", `${words.about}: ${card.title}`);
  slot.info.title = card.definition;
  slot.values.classList.toggle("pg-legend", Boolean(card.several));
  slot.values.replaceChildren(...card.values.map((value) => {
    const item = element("span", "pg-value");
    item.title = value.name;
    const dot = item.appendChild(element("span", value.diamond ? "pg-dot pg-diamond" : "pg-dot"));
    if (value.colour) dot.style.background = value.colour;
    if (card.several) item.append(element("span", "pg-muted", value.name + " "));
    item.append(value.text);
    return item;
  }));
  slot.plot.setAttribute("aria-label", [card.title, ...card.values.map((v) => `${v.name} ${v.text}`)].join(", "));
  const list = element("dl");
  for (const [word, text] of [[words.about, card.definition], [words.reading, card.reading], [words.not_broken, card.not_broken]]) {
    if (text) list.append(element("dt", "", word), element("dd", "", text));
  }
  slot.note.replaceChildren(list);
}

function merge(base, over) {
  const out = { ...base };
  for (const [key, value] of Object.entries(over)) {
    const both = value && typeof value === "object" && !Array.isArray(value) && out[key] && typeof out[key] === "object";
    out[key] = both ? merge(out[key], value) : value;
  }
  return out;
}

// One drawing of a chart at a time; of what arrives meanwhile only the newest is drawn.
async function draw(Plotly, slot, card, payload, state) {
  slot.next = [card, payload];
  if (slot.busy) return;
  slot.busy = true;
  try {
    while (slot.next && !slot.gone) {
      const [newest, its] = slot.next;
      slot.next = null;
      await drawOnce(Plotly, slot, newest, its, state);
    }
  } finally {
    slot.busy = false;
    if (slot.gone) Plotly.purge(slot.plot);
  }
}

async function drawOnce(Plotly, slot, card, payload, state) {
  const has = card.data.some((trace) => trace.x.length > 0);
  slot.wait.textContent = has ? "" : payload.words.waiting;
  slot.wait.style.display = has ? "none" : "";
  slot.plot.style.display = has ? "" : "none";
  if (!has) return;
  const wanted = JSON.stringify([card.data, card.layout, payload.template]);
  if (slot.drawn === wanted) return;
  const first = !slot.drawn;
  slot.drawn = wanted;
  const layout = merge(payload.template.layout, card.layout);
  // A finger should scroll the page, not draw a box.
  layout.dragmode = window.matchMedia("(pointer: coarse)").matches ? false : "zoom";
  layout.autosize = true;
  await Plotly.react(slot.plot, card.data, layout, CONFIG);
  if (first && !slot.gone) {
    if (!card.still) slot.plot.on("plotly_click", (event) => {
      const point = event.points && event.points[0];
      if (point && Number.isFinite(Number(point.x))) state.send(Math.round(Number(point.x)));
    });
    state.sizes.observe(slot.plot);
  }
}

function remove(slot) {
  slot.gone = true;
  slot.root.remove();
  if (slot.drawn && !slot.busy) window.Plotly.purge(slot.plot); // else draw() does it when it has ended
}

const instances = new WeakMap();

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const payload = JSON.parse(typeof data === "string" ? data : new TextDecoder().decode(data));
  if (payload.preload) {
    const idle = window.requestIdleCallback || ((run) => setTimeout(run, 300));
    idle(() => plotly().catch(() => {}));
    return () => {};
  }
  let state = instances.get(parentElement);
  if (!state) {
    const root = parentElement.appendChild(element("div", "pg-grid"));
    state = { root, slots: new Map(), closeNotes: null, send: null, sizes: null };
    state.closeNotes = () => state.slots.forEach((slot) => { slot.note.hidden = true; slot.info.setAttribute("aria-expanded", "false"); });
    state.sizes = new ResizeObserver((entries) => entries.forEach(({ target }) => {
      const slot = [...state.slots.values()].find((other) => other.plot === target);
      if (slot && !slot.busy && !slot.gone && target.offsetWidth) window.Plotly.Plots.resize(target);
    }));
    instances.set(parentElement, state);
  }
  state.send = (step) => setTriggerValue("step", step);
  state.root.classList.toggle("pg-compact", payload.compact);
  const keys = payload.cards.map((card) => card.key);
  for (const [key, slot] of state.slots) {
    if (!keys.includes(key)) { remove(slot); state.slots.delete(key); }
  }
  payload.cards.forEach((card, i) => {
    if (!state.slots.has(card.key)) state.slots.set(card.key, buildCard(card, state));
    const slot = state.slots.get(card.key);
    if (state.root.children[i] !== slot.root) state.root.insertBefore(slot.root, state.root.children[i] || null);
    fillTexts(slot, card, payload.words);
  });
  plotly().then(
    (Plotly) => payload.cards.forEach((card) => { const slot = state.slots.get(card.key); if (slot) draw(Plotly, slot, card, payload, state); }),
    () => state.slots.forEach((slot) => { slot.wait.textContent = payload.words.missing; slot.wait.style.display = ""; }),
  );
  return () => {
    state.sizes.disconnect();
    state.slots.forEach(remove);
    state.root.remove();
    instances.delete(parentElement);
  };
}
