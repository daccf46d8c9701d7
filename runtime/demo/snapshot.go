package demo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/bowline-net/bowline/internal/state"
)

// A section is one kind of thing that a host has, as sorted lines of text.
type section struct {
	kind  string
	lines []string
}

// processesKind is the section of processes. One that ended is no difference.
const processesKind = "processes"

// moving matches what changes by itself: lifetimes, counters and dates.
var moving = regexp.MustCompile(`(valid_lft|preferred_lft|expires) \d+sec|\[\d+:\d+\]|^# .*`)

// snapshot returns all that attaching containers could change on the host.
// Commands that are not installed have nothing to show; ip must be there.
func snapshot(ctx context.Context, self string) ([]section, error) {
	if _, err := exec.LookPath("ip"); err != nil {
		return nil, fmt.Errorf("the comparison of the host needs the command ip (package iproute2): %w", err)
	}
	var all []section
	for _, s := range []struct {
		kind     string
		commands []string
	}{
		{"links", []string{"ip -o link"}},
		{"addresses", []string{"ip -o addr"}},
		{"routes", []string{"ip -o route show table all", "ip -6 -o route show table all"}},
		{"routing rules", []string{"ip rule", "ip -6 rule"}},
		{"nftables", []string{"nft -s list ruleset"}},
		{"iptables", []string{"iptables-save", "ip6tables-save", "iptables-legacy-save", "ip6tables-legacy-save"}},
	} {
		lines, err := output(ctx, s.commands)
		if err != nil {
			return nil, err
		}
		all = append(all, section{s.kind, lines})
	}
	run, lib := state.Run().Dir, state.Lib().Dir
	for _, s := range []struct {
		kind string
		read func() ([]string, error)
	}{
		{"records and leases", func() ([]string, error) { return files(run, lib, "/var/lib/cni") }},
		{"mounts", mounts},
		{processesKind, func() ([]string, error) { return processes(filepath.Dir(self)) }},
		{"sysctls", func() ([]string, error) { return sysctlLines() }},
	} {
		lines, err := s.read()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.kind, err)
		}
		slices.Sort(lines)
		all = append(all, section{s.kind, lines})
	}
	return all, nil
}

// output returns the lines that the commands print, in their order, each with
// what it is nested in: a rule of nftables means nothing without its chain.
func output(ctx context.Context, commands []string) ([]string, error) {
	var lines []string
	for _, command := range commands {
		argv := strings.Fields(command)
		out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).Output()
		if errors.Is(err, exec.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", command, err)
		}
		var within []string
		for line := range strings.Lines(string(out)) {
			line = strings.TrimSpace(moving.ReplaceAllString(line, ""))
			switch {
			case line == "}":
				within = within[:max(0, len(within)-1)]
			case strings.HasSuffix(line, "{"):
				within = append(within, line)
				lines = append(lines, strings.Join(within, " "))
			case line != "":
				lines = append(lines, strings.Join(append(slices.Clone(within), line), " "))
			}
		}
	}
	return lines, nil
}

// files returns the files below the directories with what they hold. Lock files,
// which are empty and stay by design, do not count.
func files(dirs ...string) ([]string, error) {
	var found []string
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && path == state.MeterFile("") { // tells of the past, and stays
				return filepath.SkipDir
			}
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			// A namespace cannot be read; it is among the mounts.
			if data, err := os.ReadFile(path); err == nil && (len(data) > 0 || !strings.Contains(d.Name(), "lock")) {
				found = append(found, fmt.Sprintf("%s %x", path, sha256.Sum256(data)))
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// mounts returns where what is mounted, as this process sees it.
func mounts() ([]string, error) {
	data, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimSpace(string(data)), "\n"), nil
}

// processes returns the processes, other than this one, that run executables of
// the directory.
func processes(dir string) ([]string, error) {
	exes, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		return nil, err
	}
	var found []string
	for _, path := range exes {
		exe, err := os.Readlink(path)
		pid := filepath.Base(filepath.Dir(path))
		if err != nil || pid == fmt.Sprint(os.Getpid()) || filepath.Dir(exe) != dir {
			continue
		}
		cmdline, _ := os.ReadFile(filepath.Join("/proc", pid, "cmdline"))
		found = append(found, pid+" "+string(bytes.ReplaceAll(cmdline, []byte{0}, []byte{' '})))
	}
	return found, nil
}
