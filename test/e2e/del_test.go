package e2e

import (
	"os"
	"strings"
	"testing"
)

// TestDel: DEL succeeds with whatever is left to go by, and leaves nothing.
func TestDel(t *testing.T) {
	for _, k := range kinds() {
		tests := []struct {
			name string
			del  func(s *sandbox, c conf, r result) error
		}{
			{"with everything", func(s *sandbox, c conf, r result) error { return s.tryDel(c.with("prevResult", r.raw), s.path) }},
			{"without prevResult", func(s *sandbox, c conf, r result) error { return s.tryDel(c, s.path) }},
			{"without a namespace", func(s *sandbox, c conf, r result) error { return s.tryDel(c.with("prevResult", r.raw), "") }},
			{"with neither", func(s *sandbox, c conf, r result) error { return s.tryDel(c, "") }},
			{"after the sandbox ended", func(s *sandbox, c conf, r result) error {
				path := s.path
				s.end()
				return s.tryDel(c, path)
			}},
			{"with another namespace at the path", func(s *sandbox, c conf, r result) error {
				s.end()
				other := s.h.sandbox(s.id) // a path is used again by another container
				other.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "peer0")
				err := s.tryDel(c, s.path)
				other.run("ip", "link", "show", "eth0") // not ours: it stays
				return err
			}},
			{"after the link is gone", func(s *sandbox, c conf, r result) error {
				s.run("ip", "link", "delete", "eth0")
				return s.tryDel(c, s.path)
			}},
			{"after what the network has in the host is gone", func(s *sandbox, c conf, r result) error {
				if c["type"] != "bowline-macvlan" {
					s.h.run("ip", "link", "delete", "br-web")
				} else if c["host-access"] == true {
					s.h.run("ip", "link", "delete", s.h.shim())
				}
				return s.tryDel(c, s.path)
			}},
			{"after the rules were flushed", func(s *sandbox, c conf, r result) error {
				s.h.run("nft", "flush", "ruleset")
				return s.tryDel(c, s.path)
			}},
			{"without ipam data", func(s *sandbox, c conf, r result) error {
				return s.tryDel(c.ipam("ranges", []any{}), s.path)
			}},
			{"twice, as containerd does", func(s *sandbox, c conf, r result) error {
				if err := s.tryDel(c.with("prevResult", r.raw), s.path); err != nil {
					return err
				}
				return s.tryDel(c, "")
			}},
		}
		for _, tt := range tests {
			t.Run(k.name+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				h := k.host(t)
				s := h.sandbox("a")
				// A pool of one address: the next ADD shows that it is free again.
				c := k.guarded(k.network("web", "10.1.0.0/30", web6))
				r := s.add(c)
				if err := tt.del(s, c, r); err != nil {
					t.Fatalf("DEL: %v", err)
				}
				h.expectNoEndpoint()
				rules := h.run("nft", "list", "ruleset")
				for _, addr := range []string{r.addr("4"), r.addr("6"), r.Interfaces[0].Mac, r.Interfaces[len(r.Interfaces)-1].Mac} {
					if strings.Contains(rules, addr) {
						t.Errorf("%s is still in the rules: %s", addr, rules)
					}
				}
				b := h.sandbox("b")
				b.del(c, b.add(c))
			})
		}
	}
}

// TestDelBeforeAdd: nerdctl calls DEL first.
func TestDelBeforeAdd(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, k kind) {
		h := k.host(t)
		s := h.sandbox("a")
		c := k.network("web", web4, web6)
		before := h.snapshot()
		if err := s.tryDel(c, ""); err != nil {
			t.Errorf("DEL of nothing: %v", err)
		}
		if d := diff(before, h.snapshot()); d != "" {
			t.Errorf("DEL of nothing changed the host:\n%s", d)
		}
		if r := s.add(c); !s.reaches(r.gateway("4")) {
			t.Error("no answer from the gateway")
		}
	})
}

// TestDelSparesOthers: DEL takes one container from one network.
func TestDelSparesOthers(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, k kind) {
		h := k.host(t)
		a, b := h.sandbox("a"), h.sandbox("b")
		web, db := k.network("web", web4, web6), k.network("db", db4, db6)
		out := h.outside()
		out.serve("192.0.2.2:80")
		a.add(web)
		rb := b.add(web)
		rdb, err := b.tryAddAs(db.with("isDefaultGateway", false), "eth1", "")
		if err != nil {
			t.Fatal(err)
		}
		a.del(web, result{})
		if !b.reaches(rb.gateway("4")) || !b.reaches(rb.gateway("6")) || !b.reaches(rdb.gateway("4")) {
			t.Error("DEL of a took b's gateways away")
		}
		b.del(web, rb) // b keeps its place on db
		if !b.reaches(rdb.gateway("4")) || !b.reaches(rdb.gateway("6")) {
			t.Error("DEL of b from web took it from db too")
		}
		if err := b.check(db, rdb); err == nil {
			t.Error("CHECK as eth0 succeeded on a network where the container has eth1")
		}
	})
}

// TestDelWithoutIPAMPlugin: the reference fails, and leaves all it made, when
// the IPAM plugin's binary is gone.
func TestDelWithoutIPAMPlugin(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, k kind) {
		h := k.host(t)
		s := h.sandbox("a")
		c := k.network("web", web4).ipam("type", "vanishing-ipam")
		dir := h.dir + "/bin"
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(findPlugin("host-local"), dir+"/vanishing-ipam"); err != nil {
			t.Fatal(err)
		}
		c = c.ipam("dataDir", h.dir+"/cni")
		path := []string{"CNI_PATH=" + dir + ":" + cniPath()}
		if _, err := h.cni(c, call{verb: "ADD", id: "a", netns: s.path, ifname: "eth0", env: path}); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(dir + "/vanishing-ipam"); err != nil {
			t.Fatal(err)
		}
		if _, err := h.cni(c, call{verb: "DEL", id: "a", netns: s.path, ifname: "eth0", env: path}); err != nil {
			t.Errorf("DEL: %v", err)
		}
		if out := s.run("ip", "-o", "link"); strings.Contains(out, "eth0") {
			t.Errorf("eth0 is still there: %s", out)
		}
		h.expectNoEndpoint()
		h.gc(c.ipam("type", "host-local"), []string{})
		delete(h.used, "web")        // its GC would look for the plugin
		os.RemoveAll(h.dir + "/cni") // what the plugin had reserved, for ever
	})
}
