package harness

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// BuildPlugin builds the plugin of the module into dir, with the flags of the
// Makefile, and returns the library's path.
func BuildPlugin(ctx context.Context, moduleRoot, dir string) (string, error) {
	so := filepath.Join(dir, "out_kinesis_agg.so")
	cmd := exec.CommandContext(ctx, "go", "build", "-buildmode=c-shared", "-trimpath",
		"-tags", "netgo,osusergo", "-o", so, ".")
	cmd.Dir = moduleRoot
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("harness: the plugin does not build: %w\n%s", err, tail(string(out)))
	}
	return so, nil
}

// BuildHost builds the ABI host of the module into dir, as an engine before
// 2.0 if old, and returns its path.
func BuildHost(ctx context.Context, moduleRoot, dir string, old bool) (string, error) {
	cc := os.Getenv("CC")
	if cc == "" {
		cc = "cc"
	}
	name, flags := "abihost", []string{"-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", "-g", "-rdynamic", "-pthread"}
	if old {
		name, flags = "abihost-old", append(flags, "-DABIHOST_OLD_ENGINE")
	}
	host := filepath.Join(dir, name)
	args := append(flags, "-o", host, filepath.Join(moduleRoot, "test", "cmd", "abihost", "abihost.c"), "-ldl")
	if out, err := exec.CommandContext(ctx, cc, args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("harness: the ABI host does not build with %s: %w\n%s", cc, err, tail(string(out)))
	}
	return host, nil
}
