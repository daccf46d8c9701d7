package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// processStart measures how long processes take that do next to nothing: the
// VERSION verb.
func processStart(ctx context.Context, o options) error {
	empty, err := emptyProgram(ctx, o)
	if err != nil {
		return err
	}
	programs := []struct {
		name, path string
		took       []time.Duration
	}{
		{"empty static Go program", empty, nil},
		{"reference loopback", o.reference + "/loopback", nil},
		{"reference bridge", o.reference + "/bridge", nil},
		{"reference host-local", o.reference + "/host-local", nil},
		{"bowline-bridge", o.ours + "/bowline-bridge", nil},
		{"bowline-ipam", o.ours + "/bowline-ipam", nil},
	}
	for range o.count(201, 21) {
		for i := range programs {
			p := &programs[i]
			cmd := exec.CommandContext(ctx, p.path)
			cmd.Env = []string{"CNI_COMMAND=VERSION", "PATH=" + os.Getenv("PATH")}
			cmd.Stdin = strings.NewReader(`{"cniVersion":"1.0.0"}`)
			start := time.Now()
			if err := cmd.Run(); err != nil {
				return err
			}
			p.took = append(p.took, time.Since(start))
		}
	}
	head("Process start (VERSION verb)", "program", "median ms", "p99 ms", "× reference bridge")
	for _, p := range programs {
		row(p.name, ms(median(p.took)), ms(quantile(p.took, 0.99)), times(float64(median(p.took)), float64(median(programs[2].took)), 0))
	}
	return nil
}

// emptyProgram builds the least that a Go program can be.
func emptyProgram(ctx context.Context, o options) (string, error) {
	dir := filepath.Join(o.dir, "empty")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte("package main\n\nfunc main() {}\n"), 0o644); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags", "-s -w", "-o", "empty", "main.go")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	return filepath.Join(dir, "empty"), cmd.Run()
}
