package bowline

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// rateUnits are the units of a rate, as tc and Kubernetes have them.
func rateUnits() []struct {
	name string
	bits float64
} {
	return []struct {
		name string
		bits float64
	}{
		{"ki", 1 << 10}, {"mi", 1 << 20}, {"gi", 1 << 30}, {"ti", 1 << 40},
		{"k", 1e3}, {"m", 1e6}, {"g", 1e9}, {"t", 1e12}, {"", 1},
	}
}

// ParseRate returns a rate in bit/s, or a burst in bits: a number, alone or with
// a unit such as 100mbit, 2.5g or 64kibit, in capitals or not; none is 0, which
// is no limit. The error wraps
// [ErrInvalid]; tc's bps is one, for it means bytes there.
func ParseRate(s string) (uint64, error) {
	number := strings.TrimSuffix(strings.ToLower(strings.TrimSpace(s)), "bit")
	if number == "none" {
		return 0, nil
	}
	factor := 1.0
	for _, u := range rateUnits() {
		if rest, ok := strings.CutSuffix(number, u.name); ok {
			number, factor = rest, u.bits
			break
		}
	}
	if n, err := strconv.ParseUint(number, 10, 64); err == nil && factor == 1 {
		return n, nil // exact
	}
	f, err := strconv.ParseFloat(number, 64)
	if v := f * factor; err == nil && v >= 0 && v < math.MaxUint64 && strings.Trim(number, "0123456789.") == "" {
		return uint64(math.Round(v)), nil
	}
	return 0, Wrong(ErrInvalid, fmt.Sprintf("%q: want bits, such as 10000000, 100mbit or 2.5gbit", s))
}

// FormatRate writes a rate or a burst as ParseRate reads it, in the largest unit
// that leaves a whole number.
func FormatRate(bits uint64) string {
	if bits == 0 {
		return "none"
	}
	unit := 0
	for ; unit < 4 && bits%1000 == 0; unit++ {
		bits /= 1000
	}
	return strconv.FormatUint(bits, 10) + [...]string{"", "k", "m", "g", "t"}[unit] + "bit"
}

// RateKeys are the keys of Rates in options, those of the reference bandwidth
// plugin: rates in bit/s, bursts in bits.
func RateKeys() []string {
	return []string{"ingressRate", "ingressBurst", "egressRate", "egressBurst"}
}

// RatesOf returns the rates that options ask for. The error wraps [ErrInvalid].
func RatesOf(options map[string]string) (Rates, error) {
	var r Rates
	for i, p := range []*uint64{&r.IngressRate, &r.IngressBurst, &r.EgressRate, &r.EgressBurst} {
		key := RateKeys()[i]
		value, given := options[key]
		if !given {
			continue
		}
		var err error
		if *p, err = ParseRate(value); err != nil {
			return Rates{}, Wrong(ErrInvalid, fmt.Sprintf("option %s=%v", key, err))
		}
	}
	return r, r.Validate()
}

// minRate is the least rate in bit/s: what Kubernetes takes for its bandwidth
// annotations. Below it a packet takes longer than connections wait.
const minRate = 1000

// Validate returns nil if r can be kept. The error wraps [ErrInvalid].
func (r Rates) Validate() error {
	for _, d := range []struct {
		name        string
		rate, burst uint64
	}{{"ingress", r.IngressRate, r.IngressBurst}, {"egress", r.EgressRate, r.EgressBurst}} {
		switch {
		case d.rate == 0 && d.burst != 0:
			return Wrong(ErrInvalid, fmt.Sprintf("%sBurst=%d: want an %sRate with it", d.name, d.burst, d.name))
		case d.rate != 0 && d.rate < minRate:
			return Wrong(ErrInvalid, fmt.Sprintf("%sRate=%d: want at least %d bit/s, or 0 for no limit", d.name, d.rate, minRate))
		case d.burst/8 >= math.MaxUint32: // the kernel's bytes have 32 bits
			return Wrong(ErrInvalid, fmt.Sprintf("%sBurst=%d: want less than %d bits, 4 GiB", d.name, d.burst, uint64(math.MaxUint32)*8))
		}
	}
	return nil
}
