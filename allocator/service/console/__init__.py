"""The console: a page at the admin address that shows the fleet and changes nothing.

`access` says who may see it, `reader` reads Redis while somebody looks, `pages` answers; the page itself is
`console.html`, `console.css` and `console.js` beside them.
"""
