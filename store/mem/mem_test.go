package mem_test

import (
	"testing"

	"github.com/zosfs/zosfs/store"
	"github.com/zosfs/zosfs/store/mem"
	"github.com/zosfs/zosfs/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Test(t, func(*testing.T) store.Store { return mem.New() })
}

func BenchmarkStore(b *testing.B) {
	storetest.Benchmark(b, func(*testing.B) store.Store { return mem.New() })
}
