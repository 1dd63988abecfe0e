// A grid world as an SVG. With the brush "look" a click selects a cell; with another one a click or drag paints.
// By keyboard: Tab to the map, arrow keys to move, Space or Enter to look or paint, Home/End to the ends of a row.
// The whole state (map, selected cell) goes to the server.

const MOVES = [[0, -1], [1, 0], [0, 1], [-1, 0]] // ← ↓ → ↑
const RING = 3 // pixels of the frame around the chosen cell, as in the style sheet
const BRUSHES = ["look", ".", "#", "G", "X", "S"]

// Corners of the small triangle that points in the direction of a move, its tip `tip` from the middle of the cell.
function arrowhead(x, y, [down, right], tip, size) {
  const [tx, ty, bx, by] = [x + right * tip, y + down * tip, x + right * (tip - size), y + down * (tip - size)]
  return `${tx},${ty} ${bx + down * size * 0.9},${by + right * size * 0.9} ${bx - down * size * 0.9},${by - right * size * 0.9}`
}

function symbol(kind, x, y, size, colours) { // in the middle of a goal or pit, at the corner of a start
  const group = make("g", { class: "symbol" })
  if (kind === "G") {
    group.append(make("path", { d: `M${x - size * 0.5} ${y + size} V${y - size} L${x + size * 0.8} ${y - size * 0.45} L${x - size * 0.5} ${y + size * 0.1}`,
      fill: colours.goal, stroke: colours.goal, "stroke-width": 2, "stroke-linejoin": "round" }))
  } else if (kind === "X") {
    const d = `M${x - size * 0.7} ${y - size * 0.7} L${x + size * 0.7} ${y + size * 0.7} M${x + size * 0.7} ${y - size * 0.7} L${x - size * 0.7} ${y + size * 0.7}`
    group.append(make("path", { d, stroke: colours.pit, "stroke-width": Math.max(2, size * 0.35), fill: "none", "stroke-linecap": "round" }))
  } else if (kind === "S") {
    group.append(make("circle", { cx: x, cy: y, r: size * 0.75, fill: "none", class: "ink", "stroke-width": 2 }))
    group.append(make("circle", { cx: x, cy: y, r: Math.max(1, size * 0.3), class: "inked" }))
  }
  return group
}

export default function ({ data, parentElement, setStateValue }) {
  const root = parentElement.querySelector(".grid-board")
  if (!root || !data) return
  const state = (root.state ??= { messages: new Messages(), stroke: null, brush: "look", at: null, rows: [], selected: null, stale: new Set() })
  if (state.messages.begunAnew(data)) state.stroke = null
  const adopt = () => { // what the server knows, unless something newer is on its way there
    const current = state.stroke === null && state.messages.answered(data)
    if (current) Object.assign(state, { rows: [...data.rows], selected: data.selected, stale: new Set() })
    return current
  }
  const current = adopt()
  if (!data.paint) state.brush = "look"
  const height = data.rows.length
  const width = data.rows[0].length
  const index = ([row, column]) => row * width + column
  const kindAt = ([row, column]) => state.rows[row][column]
  if (state.at === null || state.at[0] >= height || state.at[1] >= width) state.at = data.selected ?? [0, 0]

  const send = () => state.messages.send(mark =>
    setStateValue("board", { rows: data.paint ? [...state.rows] : null, selected: state.selected, ...mark }))

  const longest = Math.max(0, ...data.cells.flatMap(cell => cell?.quarters.map(([text]) => text.length) ?? []))
  const quarterSize = side => { // of the numbers in the triangles, beside arrows in the middle; 0 where they could not be read
    const size = Math.min(12, 0.36 * side / (0.46 * longest)) // a digit is about 0.46 of its height wide
    return size >= 7.5 ? size : 0
  }

  const drawCell = (place, side) => {
    const [row, column] = place
    const kind = kindAt(place)
    const [x, y] = [column * side, row * side]
    const [cx, cy] = [x + side / 2, y + side / 2]
    const shown = state.stale.has(index(place)) || kind === "#" ? null : data.cells[index(place)]
    const chosen = state.selected && state.selected[0] === row && state.selected[1] === column
    const best = shown && shown.arrows.length ? `, ${data.words.best} ${shown.arrows.map(a => "←↓→↑"[a]).join(" ")}` : ""
    const values = shown ? (shown.quarters.length ? shown.quarters.map(([text], a) => `${"←↓→↑"[a]} ${text}`).join(" ") : shown.text) : ""
    const group = make("g", {
      class: `cell${chosen ? " chosen" : ""}`, role: "gridcell", "data-cell": `${row},${column}`, "aria-selected": Boolean(chosen),
      tabindex: state.at[0] === row && state.at[1] === column ? 0 : -1,
      "aria-label": `${data.words.row} ${row + 1}, ${data.words.column} ${column + 1}: ${data.names[kind]} ${values}${best}`,
    })
    group.append(make("rect", { x, y, width: side, height: side, class: kind === "#" ? "wall" : "floor" }))
    const heat = (value, attributes, tag = "rect") => group.append(make(tag, {
      ...attributes, fill: value < 0 ? data.colours.below : data.colours.above, "fill-opacity": 0.62 * Math.min(1, Math.abs(value)),
    }))
    const written = (text, tx, ty, size, more = "") => group.append(
      make("text", { x: tx, y: ty, class: `value ${more}`, "font-size": size, "text-anchor": "middle", "dominant-baseline": "central" }, text))
    const special = kind === "G" || kind === "X"
    if (special) group.append(make("rect", { x, y, width: side, height: side, fill: data.colours[kind === "G" ? "goal" : "pit"], "fill-opacity": 0.16 }))
    const small = quarterSize(side) === 0
    const inset = chosen ? RING : 0 // what the ring would cover
    if (shown && shown.quarters.length) {
      shown.quarters.forEach(([text, value], a) => {
        const [down, right] = MOVES[a]
        const edge = s => `${cx + (right - s * down) * side / 2},${cy + (down + s * right) * side / 2}`
        heat(value, { points: `${cx},${cy} ${edge(1)} ${edge(-1)}`, class: "quarter" }, "polygon")
        if (!small) written(text, cx + right * (side * 0.3 - inset / 2), cy + down * (side * 0.33 - inset / 2), quarterSize(side) * (chosen ? 0.92 : 1), shown.arrows.includes(a) ? "strong" : "")
      })
    } else if (shown) heat(shown.heat, { x, y, width: side, height: side })
    if (kind === "S") {
      const size = Math.max(3, side * 0.075)
      const away = Math.max(side * 0.14, RING + 1 + size) // the ring of the chosen cell does not touch it
      group.append(symbol(kind, x + away, y + away, size, data.colours))
    }
    const text = shown && !shown.quarters.length ? shown.text : ""
    const size = Math.max(8.5, Math.min(15, (side - 2 * inset) * 0.27))
    const fits = text && text.length * size * 0.58 <= side - 4
    if (special) group.append(symbol(kind, cx, fits ? cy - side * 0.13 : cy, side * (fits ? 0.17 : 0.26), data.colours))
    if (fits) written(text, cx, special ? cy + side * 0.27 : cy, size)
    const inside = shown?.quarters.length && !small // beside numbers the arrows keep to the middle
    const [tip, length] = inside ? [side * 0.12, side * 0.08] : [side * 0.485 - inset, Math.max(4, side * 0.1)]
    for (const a of shown?.arrows ?? []) group.append(make("polygon", { points: arrowhead(cx, cy, MOVES[a], tip, length), class: "arrow" }))
    group.append(make("rect", { x: x + 1.5, y: y + 1.5, width: side - 3, height: side - 3, class: "ring" }))
    return group
  }

  const draw = () => {
    const side = Math.max(18, Math.min(data.largest, Math.floor((root.clientWidth - 2) / width)))
    state.side = side
    const focused = root.getRootNode().activeElement?.dataset?.cell
    const svg = make("svg", { width: side * width + 2, height: side * height + 2, viewBox: `-1 -1 ${side * width + 2} ${side * height + 2}`, role: "grid", "aria-label": data.title })
    for (let row = 0; row < height; row++) {
      const group = make("g", { role: "row" })
      for (let column = 0; column < width; column++) group.append(drawCell([row, column], side))
      svg.append(group)
    }
    if (data.walk.length > 1) {
      const points = data.walk.map(([row, column]) => `${(column + 0.5) * side},${(row + 0.5) * side}`).join(" ")
      svg.append(make("polyline", { points, class: "walk", stroke: data.colours.walk, "stroke-width": Math.max(3, side * 0.09) }))
    }
    state.map.replaceChildren(svg)
    state.note.hidden = !longest || quarterSize(side) > 0
    state.note.textContent = data.words.click
    state.map.classList.toggle("paints", state.brush !== "look")
    if (focused !== undefined) svg.querySelector(`[data-cell="${state.at.join(",")}"]`)?.focus({ preventScroll: true })
  }

  const drawBrushes = () => {
    state.brushes.hidden = !data.paint
    state.brushes.setAttribute("aria-label", data.words.brush)
    BRUSHES.forEach((kind, i) => {
      const button = state.brushes.children[i] ?? state.brushes.appendChild(document.createElement("button"))
      button.type = "button"
      button.dataset.brush = kind
      button.setAttribute("aria-pressed", state.brush === kind)
      const icon = make("svg", { width: 16, height: 16, viewBox: "0 0 16 16", "aria-hidden": "true" })
      if (kind === "look") icon.append(make("path", { d: "M3 2 L13 8 L8.5 9.2 L11 14 L9 15 L6.6 10.2 L3 13 Z", class: "inked" }))
      else {
        icon.append(make("rect", { x: 1, y: 1, width: 14, height: 14, rx: 2, class: kind === "#" ? "wall" : "floor" }))
        if (kind !== "." && kind !== "#") icon.append(symbol(kind, 8, 8, 4.5, data.colours))
      }
      button.replaceChildren(icon, kind === "look" ? data.words.look : data.names[kind])
    })
  }

  const put = place => { // one cell of a stroke
    const [row, column] = place
    if (kindAt(place) === state.stroke) return
    state.rows[row] = state.rows[row].slice(0, column) + state.stroke + state.rows[row].slice(column + 1)
    state.stale.add(index(place))
    draw()
    send()
  }
  const begin = place => { // a brush on its own kind takes it away
    state.stroke = kindAt(place) === state.brush ? "." : state.brush
    put(place)
  }
  const look = place => {
    state.selected = place
    draw()
    send()
  }
  const under = event => {
    const box = state.map.getBoundingClientRect()
    const place = [Math.floor((event.clientY - box.top - 1) / state.side), Math.floor((event.clientX - box.left - 1) / state.side)]
    return place[0] >= 0 && place[1] >= 0 && place[0] < height && place[1] < width ? place : null
  }

  if (!state.map) {
    state.brushes = root.appendChild(Object.assign(document.createElement("div"), { className: "brushes" }))
    state.brushes.setAttribute("role", "toolbar")
    state.map = root.appendChild(Object.assign(document.createElement("div"), { className: "map" }))
    state.note = root.appendChild(Object.assign(document.createElement("div"), { className: "note" }))
  }
  state.brushes.onclick = event => {
    const button = event.target.closest("button")
    if (!button) return
    state.brush = button.dataset.brush
    drawBrushes()
    draw()
  }
  state.map.onpointerdown = event => {
    const place = under(event)
    if (!place || state.brush === "look" || event.button) return
    event.preventDefault()
    state.at = place
    state.map.setPointerCapture(event.pointerId)
    begin(place)
  }
  state.map.onpointermove = event => {
    const place = state.stroke !== null && under(event)
    if (place) put(place)
  }
  state.map.onpointerup = state.map.onpointercancel = () => {
    if (state.stroke === null) return // a new drawing now would swallow the click that follows
    state.stroke = null
    if (adopt()) draw()
  }
  state.map.onclick = event => {
    const place = under(event)
    if (!place || state.brush !== "look") return
    state.at = place
    look(place)
  }
  state.map.onkeydown = event => {
    const [row, column] = state.at
    const to = { ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1], ArrowUp: [row - 1, column], ArrowDown: [row + 1, column], Home: [row, 0], End: [row, width - 1] }[event.key]
    if (to) {
      event.preventDefault()
      state.at = [Math.min(height - 1, Math.max(0, to[0])), Math.min(width - 1, Math.max(0, to[1]))]
      draw()
    } else if (event.key === " " || event.key === "Enter") {
      event.preventDefault()
      if (event.repeat) return
      if (state.brush === "look") look(state.at)
      else begin(state.at)
      state.stroke = null
    }
  }
  root.observer?.disconnect()
  let seen = root.clientWidth
  root.observer = new ResizeObserver(() => { if (root.clientWidth !== seen) { seen = root.clientWidth; draw() } })
  root.observer.observe(root)
  if (current) {
    drawBrushes()
    draw()
  }
  return () => root.observer?.disconnect()
}
