package chunk_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/zosfs/zosfs/chunk"
)

// Vectors of BLAKE3, from its reference implementation: the input is the bytes 0, 1, ... 250
// over and over (BLAKE3-team/BLAKE3 test_vectors/test_vectors.json).
func TestSum(t *testing.T) {
	for n, want := range map[int]string{
		0:    "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
		1:    "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
		1024: "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7",
	} {
		p := make([]byte, n)
		for i := range p {
			p[i] = byte(i % 251)
		}
		if got := chunk.Sum(p).String(); got != want {
			t.Errorf("Sum of %d bytes = %s, want %s", n, got, want)
		}
		h := chunk.NewHasher()
		for range 2 {
			h.Reset()
			for i := range p {
				_, _ = h.Write(p[i : i+1])
			}
			if got := h.Sum().String(); got != want {
				t.Errorf("Hasher over %d bytes = %s, want %s", n, got, want)
			}
		}
	}
}

func TestDigestText(t *testing.T) {
	d := chunk.Sum([]byte("x"))
	p, err := json.Marshal(d)
	if err != nil || string(p) != `"`+d.String()+`"` {
		t.Errorf("Marshal = %s, %v", p, err)
	}
	var back chunk.Digest
	if err := json.Unmarshal(p, &back); err != nil || back != d {
		t.Errorf("Unmarshal = %v, %v, want %v", back, err, d)
	}
	if d.IsZero() || !(chunk.Digest{}).IsZero() {
		t.Error("IsZero is wrong")
	}
	for name, s := range map[string]string{
		"empty": "", "short": d.String()[1:], "long": d.String() + "0", "capital": strings.ToUpper(d.String()),
		"other digit": "g" + d.String()[1:], "zero": strings.Repeat("0", 64), "path": "../../" + d.String()[6:], "NUL": "\x00" + d.String()[1:],
	} {
		if got, err := chunk.ParseDigest(s); err == nil || !got.IsZero() {
			t.Errorf("%s: ParseDigest(%q) = %v, %v, want an error", name, s, got, err)
		}
		if err := back.UnmarshalText([]byte(s)); err == nil || back != d {
			t.Errorf("%s: UnmarshalText(%q) = %v, and the digest is %v", name, s, err, back)
		}
	}
}
