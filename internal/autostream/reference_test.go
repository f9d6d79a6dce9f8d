package autostream

import (
	"out_kinesis_agg/kpl"
	"slices"
	"testing"
)

type refObs struct {
	id         string
	key        kpl.HashKey
	begin, end uint64
}

// refContradiction: full pairwise
func refContradiction(obs []refObs) bool {
	type box struct {
		lo, hi           kpl.HashKey
		minEnd, maxBegin uint64
	}
	m := map[string]*box{}
	for _, o := range obs {
		b := m[o.id]
		if b == nil {
			b = &box{o.key, o.key, o.end, o.begin}
			m[o.id] = b
		}
		if o.key.Compare(b.lo) < 0 {
			b.lo = o.key
		}
		if o.key.Compare(b.hi) > 0 {
			b.hi = o.key
		}
		b.minEnd = min(b.minEnd, o.end)
		b.maxBegin = max(b.maxBegin, o.begin)
	}
	for i, a := range m {
		for j, b := range m {
			if i != j && a.lo.Compare(b.hi) <= 0 && b.lo.Compare(a.hi) <= 0 && a.maxBegin > b.minEnd && b.maxBegin > a.minEnd {
				return true
			}
		}
	}
	return false
}

func TestIdeal(t *testing.T) {
	for _, st := range strategies {
		for _, n := range []int{2, 128} {
			var took []int
			for seed := range uint64(1000) {
				rng := newRand(seed)
				f := st.make(rng)
				key := simKeys(rng, 0)
				var obs []refObs
				c := 0
				for k := 1; k < 400; k++ {
					o := refObs{string(rune('a' + f(n))), key(), uint64(k), uint64(k)}
					obs = append(obs, o)
					if refContradiction(obs) {
						obs = []refObs{o}
						c++
						if c == 3 {
							took = append(took, k)
							break
						}
					}
				}
			}
			slices.Sort(took)
			if len(took) > 10 {
				t.Log(st.name, n, len(took), took[len(took)/2], took[len(took)*99/100], took[len(took)*999/1000])
			}
		}
	}
}
