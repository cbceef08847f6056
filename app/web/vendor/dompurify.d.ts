declare const DOMPurify: {
  sanitize(html: string, options: { RETURN_DOM_FRAGMENT: true, [option: string]: unknown }): DocumentFragment
}
export default DOMPurify
