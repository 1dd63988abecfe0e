// One plotly figure that is kept: new data and layout go to Plotly.react, which redraws a fraction of what a new plot costs.
// Out of sight it is drawn once; what comes later is drawn when it is scrolled near, so that a slider waits only for what is seen.
// data (bytes of JSON): {figure: {data, layout}, clicks, missing}.

const CONFIG = { displayModeBar: false, responsive: false, doubleClick: "reset", showTips: false }
const NEAR = "200px"

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".lab-figure")
  if (!root || !data) return
  const state = (root.state ??= { next: null, busy: false, drawn: "", near: true })
  const text = typeof data === "string" ? data : new TextDecoder().decode(data)
  state.click = x => setTriggerValue("clicked", x)
  if (text === state.drawn) state.next = null
  else {
    state.next = text
    draw()
  }

  // One drawing at a time; of what arrives meanwhile only the newest is drawn.
  async function draw() {
    if (state.busy) return
    state.busy = true
    try {
      const Plotly = await plotly()
      while (state.next !== null && (state.near || !state.drawn)) {
        const newest = state.next
        state.next = null
        const { figure, clicks } = JSON.parse(newest)
        // A finger should scroll the page, not draw a box.
        const dragmode = window.matchMedia("(pointer: coarse)").matches ? false : (figure.layout.dragmode ?? "zoom")
        root.style.minHeight = `${figure.layout.height ?? 450}px`
        state.width = root.clientWidth
        await Plotly.react(root, figure.data, { ...figure.layout, dragmode, width: state.width }, CONFIG)
        if (!state.drawn) watch(Plotly, clicks)
        state.drawn = newest
      }
    } catch {
      root.textContent = JSON.parse(text).missing
    } finally {
      state.busy = false
    }
  }

  function watch(Plotly, clicks) {
    if (clicks) root.on("plotly_click", event => state.click(Number(event.points[0].x)))
    new ResizeObserver(() => {
      if (!root.clientWidth || root.clientWidth === state.width) return
      state.width = root.clientWidth
      Plotly.relayout(root, { width: state.width })
    }).observe(root)
    const page = root.closest('[data-testid="stMain"]')
    new IntersectionObserver(seen => {
      state.near = seen.at(-1).isIntersecting
      draw()
    }, { root: page, rootMargin: NEAR }).observe(root)
  }
}
