//go:build !race

package autostream

const race = false
