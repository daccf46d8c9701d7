package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/bowline-net/bowline/internal/netns"
)

// A stranger has something that a container on network web would need.
type stranger struct {
	name  string
	make  string   // commands of ip and nft, one a line; LINK, IFB and BRIDGE are our names
	names []string // what the error of ADD must hold; none: ADD works beside it
}

func strangers() []stranger {
	return []stranger{
		{"a link with the name of our bridge", "ip link add BRIDGE type ifb", []string{"BRIDGE", "not a bridge"}},
		{"a bridge with the name of ours", "ip link add BRIDGE type bridge\nip link set BRIDGE up\nip addr add 10.99.0.1/24 dev BRIDGE\nip link add stranger0 type veth peer name stranger1\nip link set stranger1 up\nip link set stranger0 master BRIDGE up", nil},
		{"a link with the name of the container's", "ip link add LINK type veth peer name stranger0", []string{"LINK"}},
		{"a bridge with the name of the container's link", "ip link add LINK type bridge", []string{"LINK"}},
		{"a link with the name of the container's ifb", "ip link add IFB type ifb\nip link set IFB alias theirs", []string{"IFB"}},
		{"a table ip bowline", "nft add table ip bowline\nnft add chain ip bowline forward\nnft add set ip bowline theirs { type ipv4_addr ; }", []string{"table ip bowline"}},
		{"a table ip6 bowline", "nft add table ip6 bowline\nnft add chain ip6 bowline theirs", []string{"table ip6 bowline"}},
		{"a table bridge bowline", "nft add table bridge bowline\nnft add chain bridge bowline theirs", []string{"table bridge bowline"}},
		{"a table inet bowline", "nft add table inet bowline\nnft add chain inet bowline theirs", nil},
		{"a table ip bowline, owned by a process", "own ip", []string{"table ip bowline"}},
		{"a table bridge bowline, owned by a process", "own bridge", []string{"table bridge bowline"}},
	}
}

// own makes a table bowline that belongs to a process until end is called.
func (h *host) own(family string) (end func()) {
	h.t.Helper()
	cmd := h.command("nft", "-i")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := netns.Do(h.ns, cmd.Start); err != nil {
		h.t.Fatal(err)
	}
	end = func() {
		stdin.Close()
		_, _ = io.Copy(io.Discard, stdout)
		_ = cmd.Wait()
	}
	h.t.Cleanup(end)
	fmt.Fprintf(stdin, "add table %s bowline { flags owner; }\nadd chain %s bowline theirs\nlist tables\n", family, family)
	for s := bufio.NewScanner(stdout); s.Scan(); {
		if strings.Contains(s.Text(), "table "+family+" bowline") {
			return end
		}
	}
	h.t.Fatalf("nft -i has made no table %s bowline", family)
	return nil
}

// strangersThings: ADD says whose thing is in the way, and nobody touches it.
func strangersThings(f *faults) {
	f.outside()
	v := &victim{faults: f, c: allOn("web", web4, web6), box: f.sandbox("a")}
	v.must("ADD")
	names := strings.NewReplacer("LINK", f.linkNamed("bwo"), "IFB", f.linkNamed("bwf"), "BRIDGE", "br-web")
	v.must("DEL")
	v.must("GC")
	v.beside(strangers(), names)
}

// beside attaches the victim beside each stranger.
func (v *victim) beside(strangers []stranger, names *strings.Replacer) {
	f := v.faults
	f.t.Helper()
	for _, s := range strangers {
		empty := v.whole()
		end := func() {}
		for line := range strings.Lines(names.Replace(s.make)) {
			words := strings.Fields(line)
			if words[0] == "own" {
				end = f.own(words[1])
				continue
			}
			f.run(words[0], words[1:]...)
		}
		before := v.whole()
		err := v.try("ADD")
		if (err == nil) != (s.names == nil) || err != nil && code(err) != 100 {
			f.t.Errorf("ADD beside %s: %v; want code 100, or success where both can be", s.name, err)
		}
		for _, want := range s.names {
			if err != nil && !strings.Contains(err.Error(), names.Replace(want)) {
				f.t.Errorf("ADD beside %s: %v; want an error that names %s", s.name, err, names.Replace(want))
			}
		}
		if s.names == nil {
			v.must("CHECK")
		}
		v.must("DEL")
		v.must("GC")
		v.box.empty("beside " + s.name)
		if d := diff(before, v.whole()); d != "" {
			f.t.Errorf("ADD, DEL, GC beside %s:\n%s", s.name, d)
		}
		f.report.add("beside "+s.name+f.where(v.c), "ADD, DEL, GC", 1)
		end()
		for line := range strings.Lines(names.Replace(s.make)) {
			words := strings.Fields(line)
			if len(words) > 3 && words[1] == "link" && words[2] == "add" {
				f.run("ip", "link", "delete", words[3])
			}
			if len(words) > 4 && words[2] == "table" {
				f.run("nft", append([]string{"delete", "table"}, words[3:]...)...)
			}
		}
		if d := diff(empty, v.whole()); d != "" {
			f.t.Fatalf("after %s:\n%s", s.name, d)
		}
	}
}

// linkNamed returns the name of the only link that starts so.
func (f *faults) linkNamed(prefix string) string {
	f.t.Helper()
	var links []net.Interface
	if err := f.do(func() (err error) {
		links, err = net.Interfaces()
		return err
	}); err != nil {
		f.t.Fatal(err)
	}
	var found []string
	for _, l := range links {
		if strings.HasPrefix(l.Name, prefix) {
			found = append(found, l.Name)
		}
	}
	if len(found) != 1 {
		f.t.Fatalf("links %s* are %v, want one", prefix, found)
	}
	return found[0]
}
