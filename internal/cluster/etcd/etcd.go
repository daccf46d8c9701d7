// Package etcd is the cluster's store in an etcd, from version 3.5.8, whoever
// runs it.
//
// The client that etcd ships connects again by itself and does not say so, and
// waits in silence on a store that was restored to before what it has seen. So
// all answers carry the store's head, which is compared; the store is asked how
// far it is; and once in a long while each watch is listed and compared, for
// what no head tells.
package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/cluster"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// A Config says where the store is and who asks.
type Config struct {
	Endpoints []string // such as https://10.0.0.1:2379; all of them https, or none

	// PEM files, for https. The client's certificate is read again for each
	// connection, so that it can be renewed in its place.
	CA, Cert, Key string

	User, Password string // optional, with https only

	Probe time.Duration // how often the store is asked how far it is; 5 s if 0
	Audit time.Duration // after how long, about, a watch is listed and compared; 10 min if 0
}

// A Store is a client of an etcd. It implements [cluster.Store].
type Store struct {
	client *clientv3.Client
	probe  time.Duration
	audit  time.Duration

	ctx    context.Context // of all that waits; ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // see spawn

	mu      sync.Mutex // so that nothing is spawned once Close waits; and streams
	streams int        // open ones
	seen    cluster.Head
	rewound chan struct{} // closed, and made anew, when the store is not as far as seen
}

var _ cluster.Store = (*Store)(nil)

// dialPatience is how long the client waits for its token before New fails.
const dialPatience = 5 * time.Second

// Dial connects to an etcd, and returns when one of its members has answered or
// all have failed to.
func Dial(ctx context.Context, c Config) (*Store, error) {
	config, err := c.client()
	if err != nil {
		return nil, err
	}
	client, err := clientv3.New(config)
	if err != nil {
		return nil, fmt.Errorf("cluster at %q: %w", c.Endpoints, cause(err))
	}
	if err := greet(ctx, client); err != nil {
		_ = client.Close() // it has served nobody
		return nil, fmt.Errorf("cluster at %q: %w", c.Endpoints, err)
	}
	s := &Store{client: client, rewound: make(chan struct{}), probe: or(c.Probe, 5*time.Second), audit: or(c.Audit, 10*time.Minute)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.spawn(s.probeStreams)
	return s, nil
}

func or(d, standard time.Duration) time.Duration {
	if d == 0 {
		return standard
	}
	return d
}

// greet asks whichever member answers for its version. It fails when all have
// failed once: without the many tries that the client makes otherwise, which
// would hide what is wrong.
func greet(ctx context.Context, client *clientv3.Client) error {
	status, err := pb.NewMaintenanceClient(client.ActiveConnection()).Status(ctx, &pb.StatusRequest{})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return cause(err)
	}
	return tooOld(status.Version)
}

// tooOld refuses versions whose answers to a probe may overtake events.
func tooOld(version string) error {
	var major, minor, patch int
	if _, err := fmt.Sscanf(version, "%d.%d.%d", &major, &minor, &patch); err != nil {
		return fmt.Errorf("%w: etcd version %q: want 3.5.8 or later", bowline.ErrInvalid, version)
	}
	if major*1_000_000+minor*1_000+patch < 3_005_008 {
		return fmt.Errorf("%w: etcd version %s: want 3.5.8 or later", bowline.ErrInvalid, version)
	}
	return nil
}

// client checks c, and reads its files.
func (c Config) client() (clientv3.Config, error) {
	config := clientv3.Config{
		Endpoints: c.Endpoints, Username: c.User, Password: c.Password, DialTimeout: dialPatience, Logger: zap.NewNop(),
		DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 5 * time.Second, // a stock etcd allows 5 s
	}
	if len(c.Endpoints) == 0 {
		return config, fmt.Errorf("%w: cluster: want at least one endpoint", bowline.ErrInvalid)
	}
	secure := c.CA != "" || c.Cert != "" || c.Key != ""
	scheme := "http"
	if secure {
		scheme = "https"
	}
	for _, e := range c.Endpoints {
		u, err := url.Parse(e)
		if err != nil || u.Scheme != scheme || u.Port() == "" || u.Path != "" {
			return config, fmt.Errorf("%w: cluster: endpoint %q: want %s://HOST:PORT, with https if there are certificates and with http if not", bowline.ErrInvalid, e, scheme)
		}
	}
	if (c.User == "") != (c.Password == "") || c.User != "" && !secure {
		return config, fmt.Errorf("%w: cluster: user %q: want a name and a password, with https, or neither", bowline.ErrInvalid, c.User)
	}
	if !secure {
		return config, nil
	}
	var err error
	config.TLS, err = c.tls()
	return config, err
}

func (c Config) tls() (*tls.Config, error) {
	pem, err := os.ReadFile(c.CA)
	if err != nil {
		return nil, fmt.Errorf("%w: cluster: CA: %w", bowline.ErrInvalid, err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%w: cluster: CA %s: want certificates as PEM", bowline.ErrInvalid, c.CA)
	}
	load := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		return &pair, err
	}
	if _, err := load(nil); err != nil {
		return nil, fmt.Errorf("%w: cluster: certificate %s with key %s: %w", bowline.ErrInvalid, c.Cert, c.Key, err)
	}
	return &tls.Config{RootCAs: roots, GetClientCertificate: load, MinVersion: tls.VersionTLS13}, nil
}

// usable returns why nothing can be asked, or nil.
func (s *Store) usable(ctx context.Context) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if s.ctx.Err() != nil {
		return fmt.Errorf("%w: the client is closed", bowline.ErrUnavailable)
	}
	return nil
}

// spawn runs f beside, until Close at the latest, and reports whether it does:
// not once that was called.
func (s *Store) spawn(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return false
	}
	s.wg.Go(f)
	return true
}

// Close does what [cluster.Store] says.
func (s *Store) Close() error {
	s.mu.Lock()
	done := s.ctx.Err() != nil
	s.cancel()
	s.mu.Unlock()
	if done {
		return nil
	}
	err := s.client.Close()
	s.wg.Wait()
	if errors.Is(err, context.Canceled) {
		return nil // of what was waiting
	}
	return err
}
