// @ts-check
/** Elements, icons and the small DOM tasks of the page. */

/** @typedef {Node | string | null | undefined | false} Child */

/**
 * An element. Properties that begin with `on` are listeners, the others attributes; null and false leave one out.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, any>} [properties]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(properties)) {
    if (value == null || value === false) continue
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value)
    else element.setAttribute(name, value === true ? '' : String(value))
  }
  for (const child of children) if (child) element.append(child)
  return element
}

/** 24 × 24 outlines. @type {Record<string, string>} */
const paths = {
  plus: 'M12 5v14M5 12h14',
  search: 'M11 18a7 7 0 1 1 0-14 7 7 0 0 1 0 14zM20 20l-4-4',
  leave: 'M14 4h5v16h-5M4 12h10M10 8l4 4-4 4',
  menu: 'M4 7h16M4 12h16M4 17h16',
  send: 'M12 19V5M6 11l6-6 6 6',
  stop: 'M7 7h10v10H7z',
  copy: 'M9 9h10v11H9zM5 15V4h10',
  check: 'M5 12.5l4.5 4.5L19 7.5',
  cross: 'M6 6l12 12M18 6L6 18',
  dash: 'M6 12h12',
  retry: 'M19 12a7 7 0 1 1-2.2-5.1M19 4v4h-4',
  trash: 'M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10.5 11v5M13.5 11v5',
  pencil: 'M4 20l1-4L16 5l3 3L8 19zM14 7l3 3',
  chevron: 'M9 6l6 6-6 6',
  down: 'M12 5v14M6 13l6 6 6-6',
  thought: 'M12 4a6 6 0 0 0-3.5 10.9V17h7v-2.1A6 6 0 0 0 12 4zM10 20h4',
  warning: 'M12 4l9 16H3zM12 10v4M12 17v.5',
  clock: 'M12 20a8 8 0 1 1 0-16 8 8 0 0 1 0 16zM12 8v4l3 2',
}

/** @param {string} name @returns {SVGSVGElement} */
export function icon(name) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg')
  svg.setAttribute('viewBox', '0 0 24 24')
  svg.setAttribute('class', `icon icon-${name}`)
  svg.setAttribute('aria-hidden', 'true')
  const path = document.createElementNS('http://www.w3.org/2000/svg', 'path')
  path.setAttribute('d', paths[name])
  svg.append(path)
  return svg
}

/** A button that shows an icon and says what it does. @param {string} name @param {string} label @param {(event: MouseEvent) => void} act @param {string} [className] */
export function iconButton(name, label, act, className = '') {
  return h('button', { type: 'button', class: `icon-button ${className}`, 'aria-label': label, title: label, onclick: act }, icon(name))
}

/** Set text only when it differs: writing the same text again would lose a selection in it. @param {Node} node @param {string} text */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text
}

/**
 * Give *parent* these children. Only what is out of place moves: an element that moves loses a click in progress and the
 * place of a screen reader.
 * @param {Element} parent
 * @param {Element[]} children
 */
export function arrange(parent, children) {
  const wanted = new Set(children)
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove()
  for (const [at, child] of children.entries()) if (parent.children[at] !== child) parent.insertBefore(child, parent.children[at] ?? null)
}

/** The direction of a text is that of its first letter. @param {string} text @returns {'ltr' | 'rtl'} */
export function directionOf(text) {
  const letter = /\p{L}/u.exec(text)?.[0] ?? ''
  return /[\p{Script=Hebrew}\p{Script=Arabic}\p{Script=Syriac}\p{Script=Thaana}\p{Script=Nko}]/u.test(letter) ? 'rtl' : 'ltr'
}

/** Tell a screen reader, politely. @param {string} text */
export function announce(text) {
  const region = /** @type {HTMLElement} */ (document.getElementById('announcer'))
  // A screen reader says a text only when it changes.
  region.textContent = region.textContent === text ? `${text}\u00a0` : text
}

/** @param {string} text @returns {Promise<boolean>} */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text)
    return true
  } catch {
    // A page without HTTPS has no clipboard.
    const area = h('textarea', { class: 'visually-hidden', 'aria-hidden': 'true' })
    area.value = text
    document.body.append(area)
    const focused = /** @type {HTMLElement | null} */ (document.activeElement)
    area.select()
    const copied = document.execCommand('copy')
    area.remove()
    focused?.focus()
    return copied
  }
}

/**
 * Ask in a dialog. The browser keeps the focus inside it and returns it afterwards.
 * @param {{ title: string, text?: string, confirm: string, cancel: string, danger?: boolean, input?: { label: string, value: string, type?: string, longest?: number } }} question
 * @returns {Promise<string | null>} what was entered (empty without an input); null: the dialog was dismissed
 */
export function ask({ title, text, confirm, cancel, danger, input }) {
  return new Promise((resolve) => {
    const field = input && h('input', { type: input.type ?? 'text', id: 'dialog-input', autocomplete: 'off', maxlength: input.longest ?? 4096 })
    if (field) field.value = input.value
    const dialog = h('dialog', { class: 'dialog', 'aria-labelledby': 'dialog-title' },
      h('form', { method: 'dialog' },
        h('h2', { id: 'dialog-title' }, title),
        text && h('p', {}, text),
        field && h('label', { for: 'dialog-input' }, input.label),
        field,
        h('div', { class: 'dialog-buttons' },
          h('button', { type: 'button', class: 'button quiet', onclick: () => dialog.close('') }, cancel),
          h('button', { type: 'submit', value: 'yes', class: danger ? 'button danger' : 'button' }, confirm))))
    dialog.addEventListener('close', () => {
      dialog.remove()
      resolve(dialog.returnValue === 'yes' ? field?.value ?? '' : null)
    })
    document.body.append(dialog)
    dialog.showModal()
    field?.select()
  })
}
