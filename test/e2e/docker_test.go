package e2e

import "testing"

func TestDocker(t *testing.T) {
	h := newDockerHost(t)
	t.Log(h.cli("version", "--format", "{{.Server.Version}}"), h.cli("images"))
	t.Log(h.sh("iptables -S FORWARD"))
	h.cli("run", "-d", "--name", "aa", "bb:1", "sleep", "1000")
	t.Log(h.cli("exec", "aa", "ip", "a"))
	t.Log(h.cli("exec", "aa", "ping", "-c1","-W1", "192.0.2.2"))
}
