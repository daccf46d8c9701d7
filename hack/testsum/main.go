// Testsum reads `go test -json` and says in a few lines how it went.
//
//	go test -json ./... | testsum [-counts FILE]
//
// It prints one line per package, the output of each test that failed, and the
// skipped tests with their reasons. It ends with a line such as "120 passed, 0
// failed", and with -counts adds the two numbers to those in FILE. Its exit
// status is 1 if anything failed, or if a test was skipped while
// BOWLINE_NO_SKIP is 1.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

type event struct {
	Action     string
	Package    string
	ImportPath string // of build events
	Test       string
	Output     string
	Elapsed    float64
}

type summary struct {
	out                     io.Writer
	noSkip                  bool
	passed, failed, skipped int
	perPackage              map[string]int
	failedIn                map[string]bool     // packages with a test that failed
	output                  map[string][]string // by package and test, until its end is known
}

func main() {
	counts := flag.String("counts", "", "add the numbers of passed and failed tests to those in `FILE`")
	flag.Parse()
	s := newSummary(os.Stdout, os.Getenv("BOWLINE_NO_SKIP") == "1")
	if err := s.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(1)
	}
	fmt.Printf("%d passed, %d failed\n", s.passed, s.failed)
	if *counts != "" {
		if err := add(*counts, s.passed, s.failed); err != nil {
			fmt.Fprintln(os.Stderr, "testsum:", err)
			os.Exit(1)
		}
	}
	if s.failed > 0 || s.passed == 0 {
		os.Exit(1)
	}
}

func newSummary(out io.Writer, noSkip bool) *summary {
	return &summary{out: out, noSkip: noSkip, perPackage: map[string]int{}, failedIn: map[string]bool{}, output: map[string][]string{}}
}

// read consumes events until the end of r. Lines that are not JSON, which go
// prints when it cannot even build, are passed on.
func (s *summary) read(r io.Reader) error {
	in := bufio.NewScanner(r)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		var e event
		if err := json.Unmarshal(in.Bytes(), &e); err != nil || e.Action == "" {
			fmt.Fprintln(s.out, in.Text())
			continue
		}
		s.event(e)
	}
	return in.Err()
}

func (s *summary) event(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "build-output":
		fmt.Fprint(s.out, e.Output)
	case "output":
		s.output[key] = append(s.output[key], e.Output)
		return
	case "pass":
		if e.Test == "" {
			fmt.Fprintf(s.out, "ok    %-42s %4d tests %6.1fs\n", short(e.Package), s.perPackage[e.Package], e.Elapsed)
			break
		}
		s.passed++
		s.perPackage[e.Package]++
	case "skip":
		if e.Test == "" {
			break // a package without tests
		}
		s.skipped++
		if s.noSkip {
			s.failed++
		}
		s.print("SKIP", e, key)
	case "fail":
		s.fail(e, key)
	default:
		return
	}
	delete(s.output, key)
}

// fail reports a test, or a package that failed outside its tests: a build
// error, a panic, a TestMain that exits.
func (s *summary) fail(e event, key string) {
	if e.Test == "" {
		fmt.Fprintf(s.out, "FAIL  %-42s %4d tests %6.1fs\n", short(e.Package), s.perPackage[e.Package], e.Elapsed)
		for k := range s.output { // of tests that never ended
			if strings.HasPrefix(k, e.Package+" ") && k != key {
				s.print("DIED", event{Package: e.Package, Test: strings.TrimPrefix(k, e.Package+" ")}, k)
				s.failed++
				s.failedIn[e.Package] = true
				delete(s.output, k)
			}
		}
		s.print("FAIL", e, key)
		if !s.failedIn[e.Package] {
			s.failed++
		}
		return
	}
	s.failed++
	s.failedIn[e.Package] = true
	s.print("FAIL", e, key)
}

func (s *summary) print(word string, e event, key string) {
	fmt.Fprintf(s.out, "%s  %s %s\n", word, short(e.Package), e.Test)
	for _, line := range s.output[key] {
		if t := strings.TrimSpace(line); t != "" && !strings.HasPrefix(t, "=== ") {
			fmt.Fprint(s.out, "      ", line)
		}
	}
}

// short drops the part of an import path that all packages share.
func short(pkg string) string {
	_, rest, ok := strings.Cut(pkg, "bowline-net/bowline")
	if !ok {
		return pkg
	}
	return "." + rest
}

// add adds to the two numbers in the file, which need not exist.
func add(file string, passed, failed int) error {
	var p, f int
	if data, err := os.ReadFile(file); err == nil {
		fmt.Sscan(string(data), &p, &f)
	}
	return os.WriteFile(file, fmt.Appendln(nil, p+passed, f+failed), 0o644)
}
