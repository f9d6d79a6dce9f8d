package plan

import "math"

// minShards returns the shards that the average load needs.
func minShards(w Way) int {
	return int(math.Ceil(math.Max(w.BytesPerSecond/ShardBytesPerSecond, w.RecordsPerSecond/ShardRecordsPerSecond)))
}

// maxShards bounds the search. No account has more.
const maxShards = 1 << 20

// shards returns the smallest number of shards, at least atLeast, with which at most
// the share in.Throttled of the records is throttled at the first attempt, and that
// share.
func (in Input) shards(all []records, atLeast int) (int, float64) {
	throttled := func(shards int) float64 { return in.throttled(all, shards) }
	low, high := max(1, atLeast), max(1, atLeast)
	for throttled(high) > in.Throttled && high < maxShards {
		low, high = high+1, high*2
	}
	for low < high {
		if middle := low + (high-low)/2; throttled(middle) > in.Throttled {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low, throttled(low)
}

// throttled estimates the share of records that one of two token buckets of a shard
// refuses: one bucket of 1 MB that fills with 1 MB/s, one of 1,000 records that
// fills with 1,000 records/s.
//
// Each host flushes once per interval, at a time of its own, so that flushes arrive
// at the stream like a Poisson process. A flush sends its records together, and each
// record goes to a random shard. The tokens that a shard has given out then behave
// like the waiting time of a queue, whose tail is exponential: it is above x with
// the probability load * exp(-decay * x), where decay solves
//
//	flushes/s * (E[exp(decay * tokens of a flush for this shard)] - 1) = decay * tokens/s
//
// (Cramér and Lundberg). A record is throttled if the bucket has fewer tokens than
// it needs. The records of its own flush are added: they can meet in one shard
// however low the load is.
func (in Input) throttled(all []records, shards int) float64 {
	flushes := float64(in.Hosts) / in.FlushSeconds
	bytes := make([]bucketLoad, len(all))
	counts := make([]bucketLoad, len(all))
	for i, r := range all {
		bytes[i] = bucketLoad{r.perFlush, r.bytes / ShardBytesPerSecond}
		counts[i] = bucketLoad{r.perFlush, 1.0 / ShardRecordsPerSecond}
	}
	return math.Min(1, math.Max(refused(flushes, bytes, shards), refused(flushes, counts, shards)))
}

// bucketLoad is a number of records of one flush, and the tokens that each needs, as
// a part of a full bucket. A bucket fills with one bucket per second.
type bucketLoad struct{ perFlush, tokens float64 }

// refused returns the share of records that one kind of bucket refuses.
func refused(flushes float64, loads []bucketLoad, shards int) float64 {
	p := 1 / float64(shards)
	load, perFlush := 0.0, 0.0
	for _, l := range loads {
		load += flushes * l.perFlush * l.tokens * p
		perFlush += l.perFlush
	}
	if load >= 1 {
		return 1
	}
	// excess is the left side of the equation minus the right side.
	excess := func(decay float64) float64 {
		exponent := 0.0
		for _, l := range loads {
			exponent += l.perFlush * math.Log1p(p*math.Expm1(decay*l.tokens))
		}
		return flushes*math.Expm1(exponent) - decay
	}
	low, high := 0.0, 1.0
	for excess(high) < 0 {
		low, high = high, high*2
	}
	for range 60 {
		if middle := (low + high) / 2; excess(middle) < 0 {
			low = middle
		} else {
			high = middle
		}
	}
	decay := low
	// The share is one of bytes, so that it is the share of log records too.
	share, largest := 0.0, 0.0
	for _, l := range loads {
		tail := load * math.Exp(-decay*math.Max(0, 1-l.tokens))
		share += flushes * l.perFlush * l.tokens * p / load * tail
		largest = math.Max(largest, l.tokens)
	}
	return math.Min(1, share+ownFlush(perFlush, largest, p))
}

// ownFlush returns the probability that earlier records of the same flush have used
// up the bucket of a shard. On average half of the flush is earlier. All records are
// taken to be as large as the largest.
func ownFlush(perFlush, tokens, p float64) float64 {
	earlier := math.Floor(math.Max(0, perFlush-1)/2 + 0.5)
	fit := math.Floor(math.Max(0, 1-tokens) / tokens) // earlier records that fit beside this one
	switch {
	case fit >= earlier:
		return 0
	case p == 1:
		return 1
	}
	// The tail of a binomial distribution: 1 - P(at most fit of the earlier records).
	atMost, logTerm := 0.0, earlier*math.Log1p(-p)
	for k := 0.0; k <= fit; k++ {
		atMost += math.Exp(logTerm)
		logTerm += math.Log((earlier-k)/(k+1)) + math.Log(p) - math.Log1p(-p)
	}
	return math.Max(0, 1-atMost)
}
