// Bars whose ends are dragged: pointer, or Tab and arrow keys (Page Up/Down: ten steps, Home/End: the limits).
// Values go to the server while a bar is dragged.

const MARGIN = { left: 38, right: 6, top: 18, bottom: 22 }

export default function ({ data, parentElement, setStateValue }) {
  const root = parentElement.querySelector(".drag-bars")
  if (!root || !data) return
  const state = (root.state ??= { messages: new Messages(), held: null, values: [] })
  const fresh = state.messages.begunAnew(data)
  if (fresh) state.held = null
  if (state.held === null && state.messages.answered(data)) state.values = [...data.values]
  const decimals = Math.max(0, -Math.floor(Math.log10(data.step) + 1e-9))
  const words = value => value.toFixed(decimals).replace("-", "−")
  const snap = value => +Math.min(data.high, Math.max(data.low, Math.round(value / data.step) * data.step)).toFixed(decimals)

  const send = () => state.messages.send(mark => setStateValue("bars", { values: [...state.values], ...mark }))

  const draw = () => {
    const width = Math.max(160, root.clientWidth)
    const height = data.height
    const inner = height - MARGIN.top - MARGIN.bottom
    const y = value => MARGIN.top + inner * (data.high - value) / (data.high - data.low)
    state.valueAt = py => data.high - (py - MARGIN.top) / inner * (data.high - data.low)
    const focused = root.getRootNode().activeElement?.dataset?.bar
    const slot = (width - MARGIN.left - MARGIN.right) / state.values.length
    const svg = make("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": data.title })
    for (const tick of data.ticks) {
      svg.append(make("line", { x1: MARGIN.left, x2: width - MARGIN.right, y1: y(tick), y2: y(tick), class: tick === 0 ? "zero" : "grid" }))
      svg.append(make("text", { x: MARGIN.left - 6, y: y(tick) + 4, class: "tick", "text-anchor": "end" }, String(tick).replace("-", "−")))
    }
    const zero = y(Math.min(data.high, Math.max(data.low, 0)))
    state.values.forEach((value, i) => {
      const centre = MARGIN.left + slot * (i + 0.5)
      const wide = Math.min(54, slot * 0.62)
      const group = make("g", {
        class: "bar", tabindex: 0, role: "slider", "data-bar": i, "aria-label": `${data.title}, ${data.labels[i]}`,
        "aria-valuemin": data.low, "aria-valuemax": data.high, "aria-valuenow": value, "aria-valuetext": words(value), "aria-orientation": "vertical",
      })
      group.append(make("rect", { x: centre - slot / 2, y: MARGIN.top, width: slot, height: inner, class: "catch" }))
      group.append(make("rect", {
        x: centre - wide / 2, width: wide, y: Math.min(zero, y(value)), height: Math.max(1, Math.abs(zero - y(value))), rx: 2, fill: data.colours[i],
      }))
      group.append(make("rect", { x: centre - wide / 2 - 3, width: wide + 6, y: y(value) - 3, height: 6, rx: 3, class: "handle" }))
      group.append(make("text", { x: centre, y: y(value) + (value < 0 && y(value) < height - MARGIN.bottom - 14 ? 17 : -8), class: "value", "text-anchor": "middle" }, words(value)))
      svg.append(group, make("text", { x: centre, y: height - 6, class: "label", "text-anchor": "middle" }, data.labels[i]))
    })
    root.replaceChildren(svg)
    state.look = JSON.stringify([{ ...data, seq: 0 }, state.values])
    if (focused !== undefined) svg.querySelector(`[data-bar="${focused}"]`)?.focus({ preventScroll: true })
  }

  const set = (i, value) => {
    const snapped = snap(value)
    if (snapped === state.values[i]) return
    state.values[i] = snapped
    draw()
    send()
  }
  const height = event => event.clientY - root.getBoundingClientRect().top

  root.onpointerdown = event => {
    const bar = event.target.closest?.(".bar")
    if (!bar) return
    event.preventDefault()
    state.held = +bar.dataset.bar
    bar.focus({ preventScroll: true })
    root.setPointerCapture(event.pointerId)
    set(state.held, state.valueAt(height(event)))
  }
  root.onpointermove = event => { if (state.held !== null) set(state.held, state.valueAt(height(event))) }
  root.onpointerup = root.onpointercancel = () => { state.held = null }
  root.onkeydown = event => {
    const bar = event.target.closest?.(".bar")
    if (!bar) return
    const i = +bar.dataset.bar
    const value = state.values[i]
    const next = {
      ArrowUp: value + data.step, ArrowRight: value + data.step, ArrowDown: value - data.step, ArrowLeft: value - data.step,
      PageUp: value + 10 * data.step, PageDown: value - 10 * data.step, Home: data.low, End: data.high,
    }[event.key]
    if (next === undefined) return
    event.preventDefault()
    set(i, next)
  }
  root.observer?.disconnect()
  let seen = root.clientWidth
  root.observer = new ResizeObserver(() => { if (root.clientWidth !== seen) { seen = root.clientWidth; draw() } })
  root.observer.observe(root)
  const look = JSON.stringify([{ ...data, seq: 0 }, state.values])
  if (look !== state.look && (state.held === null || fresh)) draw()
  return () => root.observer?.disconnect()
}
