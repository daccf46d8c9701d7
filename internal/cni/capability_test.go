package cni

import (
	"fmt"
	"testing"
)

func TestPortMappings(t *testing.T) {
	t.Parallel()
	const place = "runtimeConfig: portMappings[0]: "
	tests := []struct{ in, want, wantErr string }{
		{`[]`, "[]", ""},
		{`[{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]`, "[8080->80/tcp]", ""},
		{`[{"HostPort": 8080, "ContainerPort": 80, "Protocol": "UDP", "HostIP": "0.0.0.0"}]`, "[0.0.0.0:8080->80/udp]", ""}, // containerd's spelling
		{`[{"containerPort": 80}]`, "[0->80/tcp]", ""},
		{`[{"hostPort": 9, "containerPort": 9, "protocol": "sctp", "hostIP": "::1"}]`, "[[::1]:9->9/sctp]", ""},
		{`[{"hostPort": 8001, "containerPort": 81}, {"hostPort": 8000, "containerPort": 80}, {"hostPort": 8000, "containerPort": 80}]`, "[8000-8001->80-81/tcp]", ""},
		{`[{"hostPort": 8000, "containerPort": 80, "count": 10}]`, "[8000-8009->80-89/tcp]", ""},
		{`[{"hostPort": 1, "containerPort": 1, "count": 65535}]`, "[1-65535->1-65535/tcp]", ""},
		{`[{"hostPort": 8080}]`, "", place + `containerPort="0": want 1 to 65535`},
		{`[{"hostPort": 65536, "containerPort": 1}]`, "", place + `hostPort="65536": want 0 to 65535`},
		{`[{"hostPort": 80, "containerPort": 80, "protocol": "icmp"}]`, "", place + `protocol="icmp": want tcp, udp or sctp`},
		{`[{"hostPort": 80, "containerPort": 80, "hostIP": "fe80::1%eth0"}]`, "", place + `hostIP="fe80::1%eth0": want an address such as 127.0.0.1 or ::1`},
		{`[{"hostPort": 80, "containerPort": 65530, "count": 7}]`, "", place + `count="7": want 1 to as many ports as there are`},
		{`[{"hostPort": 80, "containerPort": 80, "count": -1}]`, "", place + `count="-1": want 1 to as many ports as there are`},
	}
	for _, tt := range tests {
		d, err := readDocument([]byte(`{"portMappings": ` + tt.in + `}`))
		if err != nil {
			t.Fatal(err)
		}
		got, err := portMappings(d)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if text != tt.wantErr || err == nil && fmt.Sprint(got) != tt.want {
			t.Errorf("%s:\n got %v, %s\nwant %s, %s", tt.in, got, text, tt.want, tt.wantErr)
		}
	}
}
