//go:build !race

package autostream

const runsDivisor = 1
