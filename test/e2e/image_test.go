package e2e

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// busybox returns the machine's static busybox, which all images are made of.
func (h *machine) busybox() string {
	h.t.Helper()
	box, err := exec.LookPath("busybox")
	if err != nil {
		netnstest.Skip(h.t, "needs busybox-static")
	}
	return box
}

// A tarball is a tar file in the making.
type tarball struct {
	h *machine
	f *os.File
	w *tar.Writer
}

func (h *machine) tarball(name string) *tarball {
	h.t.Helper()
	f, err := os.Create(filepath.Join(h.dir, name))
	if err != nil {
		h.t.Fatal(err)
	}
	return &tarball{h, f, tar.NewWriter(f)}
}

func (b *tarball) put(hd tar.Header, body []byte) {
	b.h.t.Helper()
	hd.Size = int64(len(body))
	if err := b.w.WriteHeader(&hd); err != nil {
		b.h.t.Fatal(err)
	}
	if _, err := b.w.Write(body); err != nil {
		b.h.t.Fatal(err)
	}
}

// close completes the file and returns its path.
func (b *tarball) close() string {
	b.h.t.Helper()
	if err := b.w.Close(); err != nil {
		b.h.t.Fatal(err)
	}
	if err := b.f.Close(); err != nil {
		b.h.t.Fatal(err)
	}
	return b.f.Name()
}

// image writes the file system of the image: busybox under all its names.
func (h *machine) image() string {
	h.t.Helper()
	box := h.busybox()
	data, err := os.ReadFile(box)
	if err != nil {
		h.t.Fatal(err)
	}
	list, err := exec.Command(box, "--list").Output()
	if err != nil {
		h.t.Fatal(err)
	}
	b := h.tarball("bb.tar")
	for _, d := range []string{"bin/", "etc/", "proc/", "sys/", "dev/", "tmp/"} {
		b.put(tar.Header{Typeflag: tar.TypeDir, Name: d, Mode: 0o755}, nil)
	}
	b.put(tar.Header{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755}, data)
	for _, name := range strings.Fields(string(list)) {
		if name != "busybox" {
			b.put(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + name, Linkname: "busybox"}, nil)
		}
	}
	return b.close()
}

// archive writes that image under these names as "docker save" does, which
// every engine loads. What it runs by default sleeps, as a pod's pause does.
func (h *machine) archive(names ...string) string {
	h.t.Helper()
	layer, err := os.ReadFile(h.image())
	if err != nil {
		h.t.Fatal(err)
	}
	text := func(v any) []byte {
		data, err := json.Marshal(v)
		if err != nil {
			h.t.Fatal(err)
		}
		return data
	}
	type object = map[string]any
	config := text(object{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": object{"Cmd": []string{"/bin/sleep", "1000000"}, "Env": []string{"PATH=/bin"}},
		"rootfs": object{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}},
	})
	name := fmt.Sprintf("%x.json", sha256.Sum256(config))
	b := h.tarball("image.tar")
	for _, f := range []struct {
		name string
		data []byte
	}{
		{name, config},
		{"layer.tar", layer},
		{"manifest.json", text([]object{{"Config": name, "RepoTags": names, "Layers": []string{"layer.tar"}}})},
	} {
		b.put(tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: 0o644}, f.data)
	}
	return b.close()
}
