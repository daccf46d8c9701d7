package main

import (
	"bufio"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bowline-net/bowline/internal/netns"
)

// The demo's client and server understand each other.
func TestDemoServeAndProbe(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.sh("ip link set lo up")
	server := exec.Command("/proc/self/exe", "demo", "serve", "one")
	server.Env = h.env
	end, err := server.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := netns.Do(h.ns, server.Start); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("server says %q, %v", line, err)
	}
	client := exec.Command("/proc/self/exe", "demo", "probe")
	client.Env, client.Stdin = h.env, strings.NewReader(`["127.0.0.1","::1","192.0.2.1"]`)
	var answers []byte
	err = netns.Do(h.ns, func() (err error) {
		answers, err = client.Output()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var said map[string]string
	if err := json.Unmarshal(answers, &said); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"127.0.0.1": "one", "::1": "one"}, said); diff != "" {
		t.Error(diff)
	}
	end.Close() // the server's life
	if err := server.Wait(); err != nil {
		t.Error(err)
	}
}
