// Command bench measures the built program against the file system below it, against plain
// tools, and against its peers, in one run on one machine. It is no test: it says what is,
// and beside each figure that has a budget whether it was kept.
//
//	make bench                           everything
//	go run ./bench -quick                a few minutes
//	go run ./bench -only pack,link       some sections
//	go run ./bench -o NAME               also write bench/results/NAME.txt
//
// # How it measures
//
// What is compared is measured alternately (native, zosfs, peer, native, ...) at least three
// times, and the median counts. Figures of speed are ratios within one run: native time
// divided by ours, so 1.0 is equally fast and more is faster.
//
// Reads happen in three states:
//
//	cold         nothing in the node's cache, page cache dropped; content comes from a hub on
//	             loopback, whose own page cache is dropped too
//	first touch  content in the node's cache, node service just started, page cache dropped
//	warm         the same was done once before
//
// The first two need root, to drop the page cache.
//
// # Sections
//
//	read      walks, tar, small files, sequential and random reads, mmap, exec, latency
//	pack      time and memory against zstd and BLAKE3 alone; packing again
//	versions  ten versions of a tree in one store
//	mount     time to mount and memory of the node service, by number of entries
//	trace     programs started out of a mount with an empty cache
//	link      a mount behind a slow link, against a plain download
//
// All that a run makes lies in one temporary directory, which goes at the end, also on
// Ctrl-C, after what was measured until then was printed.
package main
