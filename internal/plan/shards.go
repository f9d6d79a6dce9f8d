package plan

import "math"

// minShards returns the shards that the average load needs.
func minShards(w Way) int {
	return int(math.Ceil(math.Max(w.BytesPerSecond/ShardBytesPerSecond, w.RecordsPerSecond/ShardRecordsPerSecond)))
}

// maxShards bounds the search. No account has more.
const maxShards = 1 << 20

// shards returns the smallest number of shards, at least atLeast, with which at most
// the share most of the records is throttled at the first attempt, and that share.
func (t traffic) shards(most float64, atLeast int) (int, float64) {
	enough := func(shards int) bool {
		for _, loads := range t.bucketLoads() {
			if !acceptable(t.burstsPerSecond, loads, shards, most) {
				return false
			}
		}
		return true
	}
	low, high := max(1, atLeast), max(1, atLeast)
	for !enough(high) && high < maxShards {
		low, high = high+1, high*2
	}
	for low < high {
		if middle := low + (high-low)/2; enough(middle) {
			high = middle
		} else {
			low = middle + 1
		}
	}
	return low, t.throttled(low)
}

// ThrottledShare returns the estimated share of records that a stream with so many
// shards throttles at the first attempt. in must be valid.
func (in Input) ThrottledShare(shards int) float64 { return in.traffic().throttled(shards) }

// throttled estimates the share of records that one of two token buckets of a shard
// refuses: one bucket of 1 MB that fills with 1 MB/s, one of 1,000 records that
// fills with 1,000 records/s.
//
// Each host flushes once per interval, at a time of its own, so flushes arrive
// at the stream like a Poisson process. A flush sends its records together, in bursts
// of at most burstRecords, and each record goes to a random shard. The tokens that a
// shard has given out then behave like the waiting time of a queue that refuses whoever
// would wait too long. Without that limit, they would be above x with the probability
//
//	tail = load * exp(-decay * x)
//
// where decay solves (Cramér and Lundberg)
//
//	bursts/s * (E[exp(decay * tokens of a burst for this shard)] - 1) = decay * tokens/s
//
// and with the limit the share (1-load) * tail / (1 - load*tail) is refused. A record
// is refused if the bucket has fewer tokens than it needs, x = bucket - record.
// Refused records return with a new key, so the load that is offered is the
// load / (1 - refused share); the share is the fixed point. The records of the same
// burst are added: they can meet in one shard however low the load is.
func (t traffic) throttled(shards int) float64 {
	share := 0.0
	for _, loads := range t.bucketLoads() {
		share = math.Max(share, refused(t.burstsPerSecond, loads, shards))
	}
	return share
}

// bucketLoads returns what the records take from the bucket of bytes, and from that of
// records.
func (t traffic) bucketLoads() [2][]bucketLoad {
	var loads [2][]bucketLoad
	for _, r := range t.records {
		loads[0] = append(loads[0], bucketLoad{r.perBurst, r.bytes / ShardBytesPerSecond})
		loads[1] = append(loads[1], bucketLoad{r.perBurst, 1.0 / ShardRecordsPerSecond})
	}
	return loads
}

// bucketLoad is a number of records of one burst, and the tokens that each needs, as
// a part of a full bucket. A bucket fills with one bucket per second.
type bucketLoad struct{ perBurst, tokens float64 }

// refused returns the share of records that one kind of bucket refuses.
func refused(bursts float64, loads []bucketLoad, shards int) float64 {
	low, high := 0.0, 1.0
	for range 40 {
		if middle := (low + high) / 2; acceptable(bursts, loads, shards, middle) {
			high = middle
		} else {
			low = middle
		}
	}
	return high
}

// acceptable reports whether at most the share is refused.
func acceptable(bursts float64, loads []bucketLoad, shards int, share float64) bool {
	p, load := 1/float64(shards), 0.0
	for _, l := range loads {
		load += bursts * l.perBurst * l.tokens * p
	}
	return load < 1 && refusedAt(bursts/(1-share), loads, p) <= share
}

// refusedAt returns the share for the offered bursts, refused ones included.
func refusedAt(bursts float64, loads []bucketLoad, p float64) float64 {
	load, perBurst, largest := 0.0, 0.0, 0.0
	for _, l := range loads {
		load += bursts * l.perBurst * l.tokens * p
		perBurst += l.perBurst
		largest = math.Max(largest, l.tokens)
	}
	if near := 1e-4; math.Abs(load-1) < near { // where decay is 0
		bursts *= 1 + near
		load *= 1 + near
	}
	decay := decay(bursts, loads, p, load)
	share := 0.0
	for _, l := range loads {
		inverse := math.Exp(decay*math.Max(0, 1-l.tokens)) / load // of the tail
		// The share is one of bytes, so it is the share of log records too.
		share += bursts * l.perBurst * l.tokens * p / load * (1 - load) / (inverse - load)
	}
	return math.Min(1, share+ownBurst(perBurst, largest, p))
}

// decay solves the equation above. It is negative if the load is above 1.
func decay(bursts float64, loads []bucketLoad, p, load float64) float64 {
	excess := func(decay float64) float64 {
		exponent := 0.0
		for _, l := range loads {
			exponent += l.perBurst * math.Log1p(p*math.Expm1(decay*l.tokens))
		}
		return bursts*math.Expm1(exponent) - decay
	}
	inside, outside := 0.0, 1.0 // excess is negative from 0 to the solution
	if load > 1 {
		outside = -1
	}
	for excess(outside) < 0 {
		inside, outside = outside, outside*2
	}
	for range 60 {
		if middle := (inside + outside) / 2; excess(middle) < 0 {
			inside = middle
		} else {
			outside = middle
		}
	}
	return outside
}

// ownBurst returns the probability that earlier records of the same burst have used
// up the bucket of a shard. On average half of the burst is earlier. All records are
// taken to be as large as the largest.
func ownBurst(perBurst, tokens, p float64) float64 {
	earlier := math.Floor(math.Max(0, perBurst-1)/2 + 0.5)
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
