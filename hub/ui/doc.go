// Package ui makes the page of a hub: plain HTML from templates, without scripts.
//
// Its functions take values and write a page; they know neither the database nor flists.
// Names in trees are arbitrary bytes from strangers: what is shown goes through [Text],
// which makes bytes that are not printable visible, and html/template, which escapes.
// [Headers] sets a content security policy that permits the style sheet and nothing else.
//
// A UI is safe for concurrent use.
package ui
