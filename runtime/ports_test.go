package runtime

import (
	"errors"
	"testing"

	"github.com/bowline-net/bowline"
)

func TestParsePort(t *testing.T) {
	t.Parallel()
	tests := []struct{ in, want string }{
		{"8080:80", "8080->80/tcp"},
		{"8080:80/UDP", "8080->80/udp"},
		{"80", "0->80/tcp"},
		{":80", "0->80/tcp"},
		{"80/sctp", "0->80/sctp"},
		{"8000-8009:80-89", "8000-8009->80-89/tcp"},
		{"127.0.0.1:8080:80", "127.0.0.1:8080->80/tcp"},
		{"127.0.0.1::80", "127.0.0.1:0->80/tcp"},
		{"[::1]:8080:80", "[::1]:8080->80/tcp"},
		{"[::]::80/udp", "[::]:0->80/udp"},
		{"1-65535:1-65535", "1-65535->1-65535/tcp"},
		{"", ""},
		{"0", ""},
		{"8080:0", ""},
		{"0:80", ""},
		{"http", ""},
		{"80/icmp", ""},
		{"80/", ""},
		{"65536", ""},
		{"8009-8000:80-89", ""},
		{"8000-8009:80", ""},
		{"8080:80-89", ""},
		{"80-89", ""},
		{"localhost:8080:80", ""},
		{"::1:8080:80", ""},
		{"[127.0.0.1]:8080:80", ""},
	}
	for _, tt := range tests {
		m, err := ParsePort(tt.in)
		if tt.want == "" {
			if !errors.Is(err, bowline.ErrInvalid) {
				t.Errorf("%q: %v, %v; want ErrInvalid", tt.in, m, err)
			}
		} else if err != nil || m.String() != tt.want {
			t.Errorf("%q: %v, %v; want %s", tt.in, m, err, tt.want)
		}
	}
}
