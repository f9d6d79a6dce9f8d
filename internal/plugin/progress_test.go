package plugin

import (
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

func named(i int) []byte { return fmt.Appendf(nil, "chunk %d", i) }

func TestProgress_IsMultiset(t *testing.T) {
	p := new(progress)
	for _, offset := range []int{3, 5, 3} {
		p.put("tag", named(1), position{offset: offset})
	}
	p.put("tag", named(2), position{offset: 7})
	for _, want := range []int{3, 5, 3, 0} {
		if got := p.take("tag", named(1)).offset; got != want {
			t.Errorf("offset %d, want %d", got, want)
		}
	}
	if got := p.take("other", named(2)).offset; got != 0 {
		t.Errorf("a chunk of another tag continues at %d", got)
	}
	if got := p.take("tag", named(2)).offset; got != 7 {
		t.Errorf("offset %d, want 7", got)
	}
	if len(p.byChunk) != 0 || p.byAge.Len() != 0 {
		t.Error("notes are left")
	}
}

func TestProgress_DropsOldest(t *testing.T) {
	p := new(progress)
	for i := range maxNotes + 10 {
		p.put("tag", named(i), position{offset: 1 + i})
	}
	if n := p.byAge.Len(); n != maxNotes {
		t.Errorf("%d notes", n)
	}
	if got := p.take("tag", named(9)).offset; got != 0 {
		t.Errorf("a dropped chunk continues at %d", got)
	}
	if got := p.take("tag", named(10)).offset; got != 11 {
		t.Errorf("a chunk continues at %d", got)
	}
}

func TestProgress_DropsByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := new(progress)
		p.put("tag", named(1), position{offset: 1})
		time.Sleep(maxNoteAge)
		p.put("tag", named(2), position{offset: 2})
		if got := p.take("tag", named(1)).offset; got != 1 {
			t.Errorf("a chunk of the last %s continues at %d", maxNoteAge, got)
		}
		time.Sleep(maxNoteAge + 1)
		if got := p.take("tag", named(2)).offset; got != 0 || p.byAge.Len() != 0 {
			t.Errorf("an older chunk continues at %d", got)
		}
	})
}

// TestProgress_Memory holds maxNotes and the 16 MB of its documentation together.
func TestProgress_Memory(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	p := new(progress)
	for i := range maxNotes {
		p.put("tag", named(i), position{offset: 1})
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	const limit = 17 << 20
	if used := int(after.HeapAlloc - before.HeapAlloc); used > limit {
		t.Errorf("%d notes use %d bytes, want at most %d", maxNotes, used, limit)
	}
	runtime.KeepAlive(p)
}

// BenchmarkProgress_Full is a retry beside as many notes as there can be.
func BenchmarkProgress_Full(b *testing.B) {
	p := new(progress)
	for i := range maxNotes {
		p.put("tag", named(i), position{offset: 1})
	}
	b.ReportAllocs()
	for b.Loop() {
		p.put("tag", []byte("a chunk"), p.take("tag", []byte("a chunk")))
		p.put("tag", []byte("a chunk"), position{offset: 1})
	}
}
