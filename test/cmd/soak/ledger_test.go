package main

import "testing"

func TestBalance(t *testing.T) {
	for name, test := range map[string]struct {
		happened func(*ledger)
		want     balance
	}{
		"each once": {func(l *ledger) { l.arrived("a", nil, []int{0, 1}, true); l.done(0) },
			balance{chunks: 1, ids: 2}},
		"never OK": {func(l *ledger) { l.arrived("a", nil, []int{0, 1}, true) },
			balance{chunks: 1, ids: 2, undelivered: 1}},
		"lost": {func(l *ledger) { l.arrived("a", nil, []int{1}, true); l.done(0) },
			balance{chunks: 1, ids: 2, lost: 1}},
		"response lost": {func(l *ledger) {
			l.arrived("a", nil, []int{0}, true)
			l.arrived("b", nil, []int{1}, false)
			l.arrived("b", nil, []int{1}, true)
			l.done(0)
		},
			balance{chunks: 1, ids: 2, recognized: 1}},
		"response lost, repeated under another key": {func(l *ledger) {
			l.arrived("a", nil, []int{0, 1}, false)
			l.arrived("b", nil, []int{0, 1}, true)
			l.done(0)
		},
			balance{chunks: 1, ids: 2, unexplained: 2}},
		"repeated with other bytes": {func(l *ledger) {
			l.arrived("a", []byte{1}, []int{0, 1}, false)
			l.arrived("a", []byte{2}, []int{0, 1}, true)
			l.done(0)
		},
			balance{chunks: 1, ids: 2, unexplained: 2}},
		"deadline reached": {func(l *ledger) {
			l.gaveUp(0)
			l.arrived("a", nil, []int{0, 1}, false)
			l.arrived("b", nil, []int{0}, true)
			l.arrived("c", nil, []int{1}, true)
			l.done(0)
		},
			balance{chunks: 1, ids: 2, gaveUp: 2}},
		"OK without a response": {func(l *ledger) { l.arrived("a", nil, []int{0, 1}, false); l.done(0) },
			balance{chunks: 1, ids: 2, unproven: 2}},
		"never sent": {func(l *ledger) { l.arrived("a", nil, []int{0, 1, 2}, true); l.done(0) },
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
