// Package vectors tests that what every released version of the formats wrote is still read
// as it was, and still written the same way. The files are in testdata/vectors, one folder
// a version, and are frozen: "go test ./test/vectors -update" makes the folder of a new
// version and never touches one that is there.
package vectors
