export interface Token {
  type: string
  tag: string
  nesting: -1 | 0 | 1
  map: [number, number] | null
  content: string
  info: string
  children: Token[] | null
  attrGet(name: string): string | null
  attrSet(name: string, value: string): void
  attrs: [string, string][] | null
}
export interface Rule {
  (tokens: Token[], index: number, options: object, env: object, self: { renderToken(tokens: Token[], index: number, options: object): string }): string
}
export default class MarkdownIt {
  constructor(options?: { html?: boolean, linkify?: boolean, breaks?: boolean, typographer?: boolean })
  options: object
  utils: { escapeHtml(text: string): string }
  renderer: { rules: Record<string, Rule | undefined>, render(tokens: Token[], options: object, env: object): string }
  parse(text: string, env: object): Token[]
  block: { parse(text: string, md: MarkdownIt, env: object, tokens: Token[]): void }
  inline: { parse(text: string, md: MarkdownIt, env: object, tokens: Token[]): void }
  core: { ruler: { at(name: string, rule: (state: { tokens: Token[], md: MarkdownIt, env: object }) => void): void } }
}
