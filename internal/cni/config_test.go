package cni

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/bowline-net/bowline"
)

func TestParse(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, stdin, args string
		want              map[string]string // options
		mac               string
		code              uint
		wantErr           string
	}{
		{
			name: "containerd's bridge",
			stdin: `{"cniVersion":"1.0.0","name":"containerd-net","type":"bowline-bridge","bridge":"cni0","isGateway":true,"ipMasq":true,
				"promiscMode":true,"ipam":{"type":"host-local"},"capabilities":{"mac":true},"runtimeConfig":{"mac":"02:00:00:00:00:01"}}`,
			want: map[string]string{"bridge": "cni0", "isGateway": "true", "ipMasq": "true", "promiscMode": "true"},
			mac:  "02:00:00:00:00:01",
		},
		{
			name:  "numbers, lists and nulls",
			stdin: `{"cniVersion":"1.1.0","name":"n","mtu":1400,"vlanTrunk":[ {"id": 10} ],"bridge":null,"hairpinMode":"true"}`,
			want:  map[string]string{"mtu": "1400", "vlanTrunk": `[{"id":10}]`, "hairpinMode": "true"},
		},
		{
			name:  "what others put in is theirs",
			stdin: `{"cniVersion":"1.1.0","name":"n","_comment":"x","cni.dev/attachments":[],"io.kubernetes/x":1,"disableGC":true}`,
			want:  map[string]string{},
		},
		{
			name:  "runtimeConfig wins over args.cni over CNI_ARGS",
			stdin: `{"cniVersion":"1.1.0","name":"n","args":{"cni":{"mac":"02:00:00:00:00:02"}}}`,
			args:  "IgnoreUnknown=1;MAC=02:00:00:00:00:03",
			want:  map[string]string{},
			mac:   "02:00:00:00:00:02",
		},
		{
			name:  "CNI_ARGS alone",
			stdin: `{"cniVersion":"1.1.0","name":"n"}`,
			args:  "K8S_POD_NAME=p;MAC=02:00:00:00:00:03",
			want:  map[string]string{},
			mac:   "02:00:00:00:00:03",
		},
		{name: "no JSON", stdin: `{`, code: CodeDecode, wantErr: "read the network configuration: unexpected end of JSON input"},
		{name: "wrong type", stdin: `{"name":7}`, code: CodeDecode, wantErr: "read the network configuration: key name: want a string, not number"},
		{name: "future version", stdin: `{"cniVersion":"2.0.0","name":"n"}`, code: CodeVersion, wantErr: `cniVersion "2.0.0": want one of 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0`},
		{name: "bad name", stdin: `{"cniVersion":"1.1.0","name":"a/b"}`, code: CodeInvalid, wantErr: `network name "a/b": want letters, digits, dots, underscores and hyphens, a letter or digit first`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := Parse(Command{Verb: "ADD", Stdin: []byte(tt.stdin), Args: tt.args})
			if tt.wantErr != "" {
				if err == nil || err.Error() != tt.wantErr || toError(err).Code != tt.code {
					t.Fatalf("Parse:\n got %v\nwant %s with code %d", err, tt.wantErr, tt.code)
				}
				return
			}
			if err != nil || !maps.Equal(got.Options, tt.want) || got.MAC != tt.mac {
				t.Errorf("Parse = %v, mac %q, %v; want %v, %q", got.Options, got.MAC, err, tt.want, tt.mac)
			}
		})
	}
}

func TestValidAttachments(t *testing.T) {
	t.Parallel()
	for stdin, want := range map[string]int{
		`{"cniVersion":"1.1.0","name":"n"}`:                                                                           -1, // absent
		`{"cniVersion":"1.1.0","name":"n","cni.dev/valid-attachments":[]}`:                                            0,
		`{"cniVersion":"1.1.0","name":"n","cni.dev/valid-attachments":[{"containerID":"c","ifname":"eth0"}]}`:         1,
		`{"cniVersion":"1.1.0","name":"n","cni.dev/attachments":[{"containerID":"c","ifname":"eth0"}],"ipam":null}`:   1, // as libcni called it once
		`{"cniVersion":"1.1.0","name":"n","cni.dev/valid-attachments":null}`:                                          -1,
		`{"cniVersion":"1.1.0","name":"n","cni.dev/valid-attachments":[{"containerID":"c","ifname":"eth0"}],"x.y":0}`: 1,
	} {
		got, err := Parse(Command{Verb: "GC", Stdin: []byte(stdin)})
		n := len(got.Valid)
		if got.Valid == nil {
			n = -1
		}
		if err != nil || n != want {
			t.Errorf("%s: %d attachments, %v; want %d", stdin, n, err, want)
		}
	}
}

func TestCommandCheck(t *testing.T) {
	t.Parallel()
	tests := []struct {
		c    Command
		want string
	}{
		{Command{Verb: "ADD", ContainerID: "c1", Netns: "/n", IfName: "eth0"}, ""},
		{Command{Verb: "DEL", ContainerID: "c1", IfName: "eth0"}, ""},
		{Command{Verb: "GC"}, ""},
		{Command{Verb: "ADD", IfName: "eth0"}, "ADD needs CNI_CONTAINERID, CNI_NETNS in the environment"},
		{Command{Verb: "PUT"}, `CNI_COMMAND="PUT": want one of ADD, DEL, CHECK, GC, STATUS, VERSION`},
		{Command{Verb: "DEL", ContainerID: "../x", IfName: "eth0"}, `CNI_CONTAINERID="../x": want letters, digits, dots, underscores and hyphens, a letter or digit first`},
		{Command{Verb: "DEL", ContainerID: "x", IfName: "a-name-too-long-for-linux"}, `CNI_IFNAME="a-name-too-long-for-linux": want a name of 1 to 15 bytes without slash, colon, percent sign or space`},
		{Command{Verb: "DEL", ContainerID: "x", IfName: "eth%d"}, `CNI_IFNAME="eth%d": want a name of 1 to 15 bytes without slash, colon, percent sign or space`},
	}
	for _, tt := range tests {
		err := tt.c.check()
		if got := fmt.Sprint(err); tt.want == "" && err != nil || tt.want != "" && got != tt.want {
			t.Errorf("%+v: %v, want %s", tt.c, err, tt.want)
		}
		if err != nil && toError(err).Code != CodeEnvironment {
			t.Errorf("%+v: code %d", tt.c, toError(err).Code)
		}
	}
}

func TestErrorsKeepTheirCode(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		want uint
	}{
		{bowline.Wrong(bowline.ErrInvalid, "x"), 7},
		{fmt.Errorf("a: %w", bowline.Wrong(bowline.ErrExhausted, "x")), 11},
		{errors.Join(errors.New("y"), bowline.Wrong(bowline.ErrConflict, "x")), 100},
		{fmt.Errorf("a: %w", &Error{Code: 51, Msg: "z"}), 51},
		{errors.New("who knows"), CodeOther},
	} {
		var b strings.Builder
		if err := PrintError(&b, tt.err, ""); err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf(`"code": %d,`, tt.want); !strings.Contains(b.String(), want) || !strings.Contains(b.String(), newest) {
			t.Errorf("%v prints %s, want %s", tt.err, b.String(), want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`{"cniVersion":"1.1.0","name":"n","mtu":1400,"vlanTrunk":[{"id":10}],"args":{"cni":{"mac":"x"}}}`, "MAC=y;IP=z")
	f.Add(`{"cniVersion":"1.1.0","name":"n","cni.dev/valid-attachments":[{}],"prevResult":{}}`, "")
	f.Fuzz(func(t *testing.T, stdin, args string) {
		c, err := Parse(Command{Verb: "ADD", Stdin: []byte(stdin), Args: args})
		if err == nil && (!validID(c.Name) || c.Options == nil) {
			t.Errorf("%q parsed to %+v", stdin, c)
		}
		if err != nil && toError(err).Code == CodeOther {
			t.Errorf("%q: error without a code: %v", stdin, err)
		}
	})
}
