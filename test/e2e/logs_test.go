package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	traceID     = "0af7651916cd43dd8448eb211c80319c"
	traceparent = "00-" + traceID + "-b7ad6b7169203331-01"
)

// A trace goes through to a delegated plugin as it came, and what a failed
// command logs says whose it was.
func TestTraceContext(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	dir := filepath.Join(h.dir, "cni")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\nenv >" + h.dir + "/seen.$CNI_COMMAND\n[ $CNI_COMMAND != ADD ] || { echo '{\"code\":11,\"msg\":\"none left\"}'; exit 1; }\n"
	if err := os.WriteFile(filepath.Join(dir, "look"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(filepath.Join(dir, "look")) // it is no record
	s := h.sandbox("c1")
	conf, err := json.Marshal(network("web").with("ipam", map[string]any{"type": "look"}))
	if err != nil {
		t.Fatal(err)
	}
	h.used["web"] = network("web")
	given := []string{"TRACEPARENT=" + traceparent, "TRACESTATE=vendor=1", "BAGGAGE=user=alice"}
	for _, format := range []string{"text", "json"} {
		cmd := h.command(bin("bowline-bridge"))
		var stderr bytes.Buffer
		cmd.Env = append(cmd.Env[:len(cmd.Env):len(cmd.Env)], "CNI_COMMAND=ADD", "CNI_PATH="+dir, "CNI_CONTAINERID=c1", "CNI_NETNS="+s.path,
			"CNI_IFNAME=eth0", "BOWLINE_LOG_FORMAT="+format)
		cmd.Env = append(cmd.Env, given...)
		cmd.Stdin, cmd.Stderr = bytes.NewReader(conf), &stderr
		if err := h.do(cmd.Run); err == nil {
			t.Fatal("ADD succeeded without an address")
		}
		want := map[string]string{
			"level": "ERROR", "msg": "CNI command failed", "command": "ADD", "driver": "bridge", "network": "web", "container": "c1",
			"interface": "eth0", "sandbox": s.path, "trace": traceID, "error": "ipam plugin look: ADD: none left",
		}
		if format == "text" {
			for key, value := range want {
				if strings.Contains(value, " ") {
					value = `"` + value + `"`
				}
				if !strings.Contains(stderr.String(), " "+key+"="+value) {
					t.Errorf("log has no %s=%s: %s", key, value, stderr.String())
				}
			}
			continue
		}
		var line map[string]any
		if err := json.Unmarshal(stderr.Bytes(), &line); err != nil {
			t.Fatalf("%v: %s", err, stderr.String())
		}
		for key, value := range want {
			if line[key] != value {
				t.Errorf("log has %s=%v, want %s: %s", key, line[key], value, stderr.String())
			}
		}
	}
	for _, verb := range []string{"ADD", "DEL"} { // an ADD that failed is followed by a DEL
		seen, err := os.ReadFile(h.dir + "/seen." + verb)
		for _, v := range given {
			if err != nil || !strings.Contains("\n"+string(seen), "\n"+v+"\n") {
				t.Errorf("%s of the delegated plugin has no %s: %v\n%s", verb, v, err, seen)
			}
		}
	}
}

// What cannot be counted changes nothing else, and is told to those who ask.
func TestNothingToCountIn(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	meter := filepath.Join(h.dir, "run", "meter")
	if err := os.MkdirAll(filepath.Dir(meter), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(meter, nil, 0o600); err != nil { // not a directory
		t.Fatal(err)
	}
	s := h.sandbox("c1")
	c := network("web", "10.1.0.0/24")
	s.add(c)
	cmd := h.command(bin("bowline-bridge"))
	conf, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Env = append(cmd.Env[:len(cmd.Env):len(cmd.Env)], "CNI_COMMAND=DEL", "CNI_PATH="+h.dir, "CNI_CONTAINERID=c1", "CNI_NETNS="+s.path,
		"CNI_IFNAME=eth0", "BOWLINE_LOG_LEVEL=debug")
	cmd.Stdin, cmd.Stderr = bytes.NewReader(conf), &stderr
	if err := h.do(cmd.Run); err != nil {
		t.Fatalf("DEL: %v: %s", err, stderr.String())
	}
	for _, want := range []string{`level=DEBUG msg="CNI command" took=`, `level=DEBUG msg="the command was not counted"`, "network=web", "container=c1"} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("log has no %s: %s", want, stderr.String())
		}
	}
	if err := os.Remove(meter); err != nil {
		t.Error(err)
	}
}
