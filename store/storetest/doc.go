// Package storetest proves that a store keeps the contract of package store.
//
// [Test] has a subtest for each clause; every backend and every decorator runs it from a
// test of five lines, and [Benchmark] likewise. [Fault] makes a store fail in scripted ways,
// for the tests of whatever stands above stores. [NewBlob] makes valid blobs.
package storetest
