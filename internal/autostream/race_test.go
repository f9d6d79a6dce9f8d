//go:build race

package autostream

// runsDivisor makes simulations, which have one goroutine, shorter under the race
// detector, which makes them twenty times slower.
const runsDivisor = 20
