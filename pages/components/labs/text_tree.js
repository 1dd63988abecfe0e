// A tree of texts, from left to right: one chip for each state, darker the likelier its token. A click goes there; arrow keys move.

const SVG = "http://www.w3.org/2000/svg"
const WIDE = 92
const HIGH = 46
const CHIP = 74

function make(tag, className, text) {
  const element = document.createElement(tag)
  if (className) element.className = className
  if (text !== undefined) element.textContent = text
  return element
}

// Spaces and line ends as faint signs: "dog" and " dog" are two tokens.
function fill(span, text) {
  if (text === "") span.append(make("span", "sign", "∅"))
  for (const part of text.split(/([ \n\t])/)) {
    const sign = { " ": "·", "\n": "↵", "\t": "⇥" }[part]
    if (sign) span.append(make("span", "sign", sign))
    else if (part) span.append(document.createTextNode(part))
  }
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".tree")
  if (!root || !data) return
  const focused = root.contains(root.getRootNode().activeElement)
  const canvas = make("div", "canvas")
  canvas.style.width = `${data.columns * WIDE + 70}px`
  canvas.style.height = `${data.rows * HIGH}px`
  const svg = document.createElementNS(SVG, "svg")
  svg.setAttribute("width", data.columns * WIDE)
  svg.setAttribute("height", data.rows * HIGH)
  svg.setAttribute("aria-hidden", "true")
  canvas.append(svg)
  const chips = data.nodes.map((node, i) => {
    const parent = data.nodes[node.parent]
    if (parent) {
      const line = document.createElementNS(SVG, "path")
      const [x, y] = [parent.column * WIDE + CHIP, parent.row * HIGH + HIGH / 2]
      const [endX, endY] = [node.column * WIDE, node.row * HIGH + HIGH / 2]
      line.setAttribute("d", `M${x},${y} h${(WIDE - CHIP) / 2} V${endY} H${endX}`)
      line.setAttribute("class", node.path ? "path" : "")
      svg.append(line)
    }
    const chip = make("button", `chip${node.path ? " path" : ""}${node.here ? " here" : ""}`)
    chip.type = "button"
    chip.style.left = `${node.column * WIDE}px`
    chip.style.top = `${node.row * HIGH + 3}px`
    chip.style.setProperty("--share", `${(60 * node.share).toFixed(1)}%`)
    chip.style.setProperty("--hue", data.colour)
    chip.setAttribute("aria-label", [JSON.stringify(node.text), node.words, node.reward].filter(Boolean).join(", "))
    if (node.here) chip.setAttribute("aria-current", "true")
    chip.title = data.hint
    chip.tabIndex = node.here ? 0 : -1
    const token = make("span", "token")
    if (node.parent < 0) token.textContent = node.text
    else fill(token, node.text)
    chip.append(token, make("span", "words", node.words))
    chip.onclick = () => setTriggerValue("node", [data.stamp, i])
    canvas.append(chip)
    if (node.reward) {
      const reward = make("span", `reward ${node.sign}`, node.reward)
      reward.style.left = `${(node.column + 1) * WIDE - 10}px`
      reward.style.top = `${node.row * HIGH + 3}px`
      canvas.append(reward)
    }
    return chip
  })
  root.replaceChildren(canvas)
  const at = data.nodes.findIndex(node => node.here)
  const here = data.nodes[at]
  if (here) {
    if ((here.column + 2) * WIDE > root.scrollLeft + root.clientWidth || here.column * WIDE < root.scrollLeft)
      root.scrollLeft = Math.max(0, (here.column + 2) * WIDE - root.clientWidth)
    if ((here.row + 1) * HIGH > root.scrollTop + root.clientHeight || here.row * HIGH < root.scrollTop)
      root.scrollTop = Math.max(0, (here.row + 1) * HIGH - root.clientHeight)
  }
  if (focused) chips[at]?.focus({ preventScroll: true })

  const children = i => data.nodes.flatMap((node, j) => (node.parent === i ? [j] : []))
  const beside = (i, step) => {
    const rows = data.nodes.flatMap((node, j) => ((node.row - data.nodes[i].row) * step > 0 ? [j] : []))
    const far = j => Math.abs(data.nodes[j].row - data.nodes[i].row) * 1000 + Math.abs(data.nodes[j].column - data.nodes[i].column)
    return rows.sort((a, b) => far(a) - far(b))[0]
  }
  root.onkeydown = event => {
    const i = chips.indexOf(event.target.closest?.(".chip"))
    if (i < 0) return
    const next = {
      ArrowLeft: () => data.nodes[i].parent, ArrowRight: () => children(i)[0], ArrowDown: () => beside(i, 1), ArrowUp: () => beside(i, -1),
    }[event.key]
    if (!next) return
    event.preventDefault()
    const chip = chips[next()]
    if (!chip) return
    event.target.closest(".chip").tabIndex = -1
    chip.tabIndex = 0
    chip.focus()
  }
}
