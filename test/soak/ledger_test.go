package main

import "testing"

func TestBalance(t *testing.T) {
	for name, test := range map[string]struct {
		happened func(*ledger)
		want     balance
	}{
		"each once": {func(l *ledger) { l.arrived([]int{0, 1}, true); l.done(0) },
			balance{chunks: 1, ids: 2}},
		"never OK": {func(l *ledger) { l.arrived([]int{0, 1}, true) },
			balance{chunks: 1, ids: 2, undelivered: 1}},
		"lost": {func(l *ledger) { l.arrived([]int{1}, true); l.done(0) },
			balance{chunks: 1, ids: 2, lost: 1}},
		"response lost": {func(l *ledger) {
			l.arrived([]int{0}, true)
			l.arrived([]int{1}, false)
			l.arrived([]int{1}, true)
			l.done(0)
		},
			balance{chunks: 1, ids: 2, explained: 1}},
		"repeated without a reason": {func(l *ledger) { l.arrived([]int{0, 1}, true); l.arrived([]int{1}, true); l.done(0) },
			balance{chunks: 1, ids: 2, unexplained: 1}},
		"deadline reached": {func(l *ledger) { l.gaveUp(0); l.arrived([]int{0, 1}, true); l.arrived([]int{0, 1}, true); l.done(0) },
			balance{chunks: 1, ids: 2, gaveUp: 2}},
		"OK without a response": {func(l *ledger) { l.arrived([]int{0, 1}, false); l.done(0) },
			balance{chunks: 1, ids: 2, unproven: 2}},
		"never sent": {func(l *ledger) { l.arrived([]int{0, 1, 2}, true); l.done(0) },
			balance{chunks: 1, ids: 2, unknown: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			var l ledger
			l.open(2)
			test.happened(&l)
			if got := l.balance(); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
			if good := test.want.lost+test.want.unexplained+test.want.undelivered+test.want.unproven+test.want.unknown == 0; test.want.good() != good {
				t.Errorf("good: %v", !good)
			}
		})
	}
}
