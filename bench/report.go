package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// median returns the middle of ds, 0 if there are none.
func median(ds []time.Duration) time.Duration { return quantile(ds, 0.5) }

// quantile returns the value below which the part q of ds is.
func quantile(ds []time.Duration, q float64) time.Duration {
	if len(ds) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(ds))
	return s[min(int(q*float64(len(s))), len(s)-1)]
}

// ms prints milliseconds.
func ms(d time.Duration) string {
	switch v := float64(d) / 1e6; {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

// times prints how many times a is b, in bold if that reaches the target.
func times(a, b, target float64) string {
	if b == 0 {
		return "-"
	}
	r := a / b
	text := fmt.Sprintf("%.1f×", r)
	if r < 2 {
		text = fmt.Sprintf("%.2f×", r)
	}
	if target > 0 && r >= target {
		return "**" + text + "**"
	}
	return text
}

// faster is times for durations: how many times shorter ours is.
func faster(theirs, ours time.Duration, target float64) string {
	return times(float64(theirs), float64(ours), target)
}

// row prints one line of a table.
func row(cells ...any) {
	var b strings.Builder
	for _, c := range cells {
		fmt.Fprintf(&b, "| %v ", c)
	}
	fmt.Println(b.String() + "|")
}

// head prints a title and the head of a table.
func head(title string, columns ...any) {
	fmt.Printf("\n### %s\n\n", title)
	row(columns...)
	fmt.Println("|" + strings.Repeat("---|", len(columns)))
}

// describe prints what the figures were measured on.
func describe(w io.Writer, o options) {
	fmt.Fprintf(w, "Measured %s on %s, %d cores, Linux %s, %s.\n", time.Now().Format(time.DateOnly), cpu(), runtime.NumCPU(), first("uname", "-r"), runtime.Version())
	fmt.Fprintf(w, "Ours: %s. Reference: containernetworking/plugins %s. %s.\n", first(o.ours+"/bowline-bridge", "version"), referenceVersion(o), first("iptables", "--version"))
	if o.quick {
		fmt.Fprintln(w, "Few rounds: a first look, not a measurement.")
	}
}

// load returns the load average of the last minute: what else the machine did.
func load() string {
	data, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(data), " ")
	return first
}

func cpu() string {
	data, _ := os.ReadFile("/proc/cpuinfo")
	for l := range strings.Lines(string(data)) {
		if key, value, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func referenceVersion(o options) string {
	out, _ := exec.Command("go", "version", "-m", o.reference+"/bridge").Output()
	for l := range strings.Lines(string(out)) {
		if f := strings.Fields(l); len(f) > 2 && f[0] == "mod" {
			return f[2]
		}
	}
	return "of unknown version"
}

// first returns the first line that a command prints.
func first(name string, args ...string) string {
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		return name + " is not here"
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}
