package fleet

import (
	"maps"
	"slices"
)

// histogramSeconds is the width of a bin.
const histogramSeconds = 0.05

// Histogram counts delays.
type Histogram struct {
	bins  []int
	count int
	sum   float64
}

// Add counts a delay n times.
func (h *Histogram) Add(seconds float64, n int) {
	bin := max(0, int(seconds/histogramSeconds))
	if bin >= len(h.bins) {
		h.bins = append(h.bins, make([]int, bin+1-len(h.bins))...)
	}
	h.bins[bin] += n
	h.count += n
	h.sum += seconds * float64(n)
}

// Mean returns the mean delay in seconds, 0 without delays.
func (h *Histogram) Mean() float64 {
	if h.count == 0 {
		return 0
	}
	return h.sum / float64(h.count)
}

// Quantile returns the upper end of the bin that the share q of the delays does not
// exceed.
func (h *Histogram) Quantile(q float64) float64 {
	left := q * float64(h.count)
	for bin, n := range h.bins {
		if left -= float64(n); left <= 0 {
			return float64(bin+1) * histogramSeconds
		}
	}
	return float64(len(h.bins)) * histogramSeconds
}

// sorted returns the members of a set in order: the order of a map is random.
func sorted(set map[int32]bool) []int32 { return slices.Sorted(maps.Keys(set)) }
