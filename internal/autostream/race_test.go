//go:build race

package autostream

const race = true
