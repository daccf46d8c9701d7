package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/bowline-net/bowline/internal/netns"
)

// object is one of JSON.
type object = map[string]any

// call makes one call of Docker's API; answer may be nil.
func (e *engine) call(ctx context.Context, method, path string, body, answer any) error {
	var in io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		in = bytes.NewReader(text)
	}
	return e.send(ctx, method, path, in, "application/json", answer)
}

func (e *engine) send(ctx context.Context, method, path string, body io.Reader, kind string, answer any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://docker"+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", kind)
	resp, err := e.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s: %s %s: %s: %s", e.side.name, method, path, resp.Status, text)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(text, answer)
}

// answers waits until dockerd does.
func (e *engine) answers(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-tick.C {
		err := e.call(ctx, "GET", "/_ping", nil, nil)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(e.dir, "dockerd.log"))
			return fmt.Errorf("dockerd: %w\n%s", err, log[max(0, len(log)-4000):])
		}
	}
}

// image imports one that holds nothing but busybox.
func (e *engine) image(ctx context.Context) error {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "busybox", Mode: 0o755, Size: int64(len(data))}); err != nil {
		return err
	}
	if _, err := w.Write(data); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return e.send(ctx, "POST", "/images/create?fromSrc=-&repo=bb&tag=1", &b, "application/x-tar", nil)
}

// network makes one of the driver.
func (e *engine) network(ctx context.Context, name, driver string) error {
	return e.call(ctx, "POST", "/networks/create", object{"Name": name, "Driver": driver, "CheckDuplicate": true}, nil)
}

// runContainer starts a container that sleeps on the network, as docker run -d does, with
// so many ports of the host led to one of its own.
func (e *engine) runContainer(ctx context.Context, name, network string, first, count int) error {
	const inside = "80/tcp"
	bindings := []object{}
	for i := range count {
		bindings = append(bindings, object{"HostPort": fmt.Sprint(first + i)})
	}
	host := object{"NetworkMode": network}
	asks := object{"Image": "bb:1", "Cmd": []string{"/busybox", "sleep", "1000000"}, "HostConfig": host}
	if count > 0 {
		asks["ExposedPorts"], host["PortBindings"] = object{inside: object{}}, object{inside: bindings}
	}
	if err := e.call(ctx, "POST", "/containers/create?name="+url.QueryEscape(name), asks, nil); err != nil {
		return err
	}
	return e.call(ctx, "POST", "/containers/"+name+"/start", nil, nil)
}

// removeContainer ends a container.
func (e *engine) removeContainer(ctx context.Context, name string) error {
	return e.call(ctx, "DELETE", "/containers/"+name+"?force=1", nil, nil)
}

// sandbox opens the namespace of a container, and tells its address on the
// network.
func (e *engine) sandbox(ctx context.Context, name, network string) (*attachment, string, error) {
	var c struct {
		NetworkSettings struct {
			SandboxKey string
			Networks   map[string]struct{ IPAddress string }
		}
	}
	if err := e.call(ctx, "GET", "/containers/"+name+"/json", nil, &c); err != nil {
		return nil, "", err
	}
	key := strings.TrimPrefix(c.NetworkSettings.SandboxKey, "/var") // a link there, which would lead to ours
	ns, err := netns.Open(fmt.Sprintf("/proc/%d/root%s", e.first.Process.Pid, key))
	return &attachment{id: name, ns: ns}, c.NetworkSettings.Networks[network].IPAddress, err
}
