package aggregator

// Loss counts what of a chunk is not sent for one reason.
type Loss struct {
	Count  int
	Offset int // of the first one in the chunk
	Bytes  int // in the chunk, of all of them
}

// LossReason says why something is not sent.
type LossReason uint8

const (
	// Unreadable is the rest of the chunk from the first byte that is not msgpack,
	// or from the event that is truncated.
	Unreadable LossReason = iota
	// NotEvent is for values that are msgpack but not log events.
	NotEvent
	// TooDeep is for records that are nested deeper than 100 levels.
	TooDeep
	// TooLarge is for records that exceed Limit.SingleRecordMax on their own.
	TooLarge
	// NoLogKey is for records without the key in Transform.LogKey.
	NoLogKey
	// NoDataKey is for records that Transform.DataKeys leaves empty.
	NoDataKey

	// LossReasons is the number of reasons.
	LossReasons = iota
)

// Losses has a Loss for each LossReason. A count can be 0.
type Losses [LossReasons]Loss

// add counts chunk[from:to].
func (l *Losses) add(reason LossReason, from, to int) {
	loss := &l[reason]
	if loss.Count == 0 {
		loss.Offset = from
	}
	loss.Count++
	loss.Bytes += to - from
}
