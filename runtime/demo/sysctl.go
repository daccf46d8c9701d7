package demo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bowline-net/bowline/internal/state"
)

// sysctlRoots are the switches that networks of containers may touch.
var sysctlRoots = []string{"/proc/sys/net/ipv4", "/proc/sys/net/ipv6", "/proc/sys/net/bridge"}

// sysctls returns all switches and their values. Those that cannot be read count
// for nothing.
func sysctls() map[string]string {
	found := map[string]string{}
	for _, root := range sysctlRoots {
		filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				if data, err := os.ReadFile(path); err == nil {
					found[path] = strings.TrimSpace(string(data))
				}
			}
			return nil
		})
	}
	return found
}

func sysctlLines() ([]string, error) {
	var lines []string
	for path, value := range sysctls() {
		lines = append(lines, path+" = "+value)
	}
	return lines, nil
}

func sysctlStore() state.Store { return state.Run("runtime", "demo") }

// saveSysctls records the switches, so that even a killed demo's can be put back.
func saveSysctls(ctx context.Context) error {
	return sysctlStore().Put(ctx, "sysctls", sysctls())
}

// restoreSysctls puts the recorded switches back, if there is a record.
func restoreSysctls(ctx context.Context) error {
	var saved map[string]string
	err := sysctlStore().Get(ctx, "sysctls", &saved)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	// The shorter first: switching net.ipv4.ip_forward or conf/all sets those
	// of the links, too.
	paths := make([]string, 0, len(saved))
	for path := range saved {
		paths = append(paths, path)
	}
	slices.SortFunc(paths, func(a, b string) int { return len(a) - len(b) })
	var errs []error
	for _, path := range paths {
		now, err := os.ReadFile(path)
		if err != nil || strings.TrimSpace(string(now)) == saved[path] {
			continue // of a link that is gone, or as it was
		}
		if err := os.WriteFile(path, []byte(saved[path]), 0); err != nil {
			errs = append(errs, fmt.Errorf("restore sysctl: %w", err))
		}
	}
	return errors.Join(append(errs, sysctlStore().Delete(ctx, "sysctls"))...)
}
