package member

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain checks in the end that no member has left anything running.
func TestMain(m *testing.M) {
	code := m.Run()
	deadline := time.After(10 * time.Second)
	for {
		var left []string
		buf := make([]byte, 4<<20)
		for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if strings.Contains(stack, "go.etcd.io/") {
				left = append(left, stack)
			}
		}
		if len(left) == 0 {
			break
		}
		select {
		case <-time.After(20 * time.Millisecond):
			continue
		case <-deadline:
		}
		fmt.Printf("FAIL: members left %d goroutines, the first of them\n%s\n", len(left), left[0])
		code = 1
		break
	}
	os.Exit(code)
}

// host is a loopback address that no other process's tests use.
func host() string {
	pid := os.Getpid()
	return net.IPv4(127, byte(64+pid>>16%64), byte(pid>>8), byte(pid)).String()
}

// free returns a URL of a port that is free.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "https://" + l.Addr().String()
}

// A pki is a CA, and a certificate of it for everybody at host.
type pki struct{ ca, cert, key string }

func newPKI(t *testing.T) pki {
	t.Helper()
	dir := t.TempDir()
	p := pki{filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	caKey, ca := issue(t, nil, nil, &x509.Certificate{
		Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	write(t, p.ca, "CERTIFICATE", ca.Raw)
	key, cert := issue(t, caKey, ca, &x509.Certificate{
		Subject: pkix.Name{CommonName: "node"}, IPAddresses: []net.IP{net.ParseIP(host()), net.IPv4(127, 0, 0, 1)}, // from which peers come
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	write(t, p.cert, "CERTIFICATE", cert.Raw)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, p.key, "PRIVATE KEY", der)
	return p
}

// issue returns a key and its certificate by a CA, or its own.
func issue(t *testing.T, caKey *ecdsa.PrivateKey, ca, of *x509.Certificate) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if caKey == nil {
		caKey, ca = key, of
	}
	of.SerialNumber, of.NotBefore, of.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, of, ca, &key.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return key, cert
}

func write(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// config returns a member that is alone.
func config(t *testing.T, p pki, name string) Config {
	t.Helper()
	return Config{
		Name: name, Dir: filepath.Join(t.TempDir(), "data"), Client: free(t), Peer: free(t), Token: t.Name(),
		CA: p.ca, Cert: p.cert, Key: p.key, Heartbeat: 50 * time.Millisecond, Quick: true,
	}
}

// start starts members at once, for they wait for each other, and stops those
// that run still when the test ends.
func start(t *testing.T, configs ...Config) []*Member {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	members, errs := make([]*Member, len(configs)), make(chan error)
	for i, c := range configs {
		go func() {
			var err error
			members[i], err = Start(ctx, c)
			errs <- err
		}()
	}
	for range configs {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	for _, m := range members {
		if m != nil {
			t.Cleanup(func() { stop(t, m) })
		}
	}
	if t.Failed() {
		t.FailNow()
	}
	return members
}

// stop stops a member, if it runs.
func stop(t *testing.T, m *Member) {
	t.Helper()
	select {
	case <-m.Done():
	default:
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
}
