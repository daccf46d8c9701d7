package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/bowline-net/bowline"
)

// A size is a number of bytes, as people write it.
type size uint64

// String implements [flag.Value].
func (s *size) String() string {
	n, unit := uint64(*s), ""
	for _, u := range []string{"K", "M", "G", "T"} {
		if n == 0 || n%1024 != 0 {
			break
		}
		n, unit = n/1024, u
	}
	return strconv.FormatUint(n, 10) + unit
}

// Set implements [flag.Value].
func (s *size) Set(text string) error {
	digits := strings.TrimRight(text, "KMGTiBkmgtb")
	n, err := strconv.ParseUint(digits, 10, 64)
	shift, ok := map[string]int{"": 0, "B": 0, "K": 10, "M": 20, "G": 30, "T": 40}[strings.ToUpper(strings.TrimSuffix(strings.TrimSuffix(text[len(digits):], "B"), "i"))]
	if err != nil || !ok || n > math.MaxInt64>>shift {
		return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("size=%q: want a number of bytes, or one with K, M, G or T", text))
	}
	*s = size(n << shift)
	return nil
}

// labels are KEY=VALUE pairs.
type labels map[string]string

// String implements [flag.Value].
func (l *labels) String() string { return fmt.Sprint(map[string]string(*l)) }

// Set implements [flag.Value].
func (l *labels) Set(text string) error {
	k, v, ok := strings.Cut(text, "=")
	if !ok || k == "" {
		return fmt.Errorf("label %q: want KEY=VALUE", text)
	}
	if *l == nil {
		*l = labels{}
	}
	(*l)[k] = v
	return nil
}
