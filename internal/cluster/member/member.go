// Package member runs a member of an etcd in this process, so that a cluster
// needs no store that somebody installs.
//
// It is etcd as it is, held to certificates: whoever connects, peer or client,
// shows one of the same CA. Whoever starts a member says so; nothing here makes
// one out of a node, or a voter out of a learner.
package member

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/bowline-net/bowline"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// A Config is what a member is.
type Config struct {
	Name string // no other member's
	Dir  string // of its data, for nobody else

	// Where it listens, and where others find it: https://HOST:PORT.
	Client, Peer string

	// The peers of a new cluster by name, this one among them; nil for one that
	// is alone. With Join, those of a cluster that has been told to expect this
	// member. Both count at the first start only: then the data says it.
	Peers map[string]string
	Join  bool
	// Token tells clusters apart that have members of the same names and places,
	// such as one before and after a restore.
	Token string

	// PEM files. The certificate is a server's and a client's, for the HOST of
	// both and for the address by which this member reaches its peers.
	CA, Cert, Key string

	Log string // a file for warnings; none if empty

	Heartbeat time.Duration // between members; 100 ms if 0. Elections take ten of them
	// For tests: neither wait for the disk, so that a power cut loses data, nor
	// make passwords hard to guess from it.
	Quick bool
}

// retention is for how long old revisions can be listed, and watches that were
// away go on without listing.
const retention = "1h"

// A Member is a running one.
type Member struct {
	etcd *embed.Etcd
	log  *os.File // or nil
}

// Start starts a member, and returns when it serves: it has found a majority of
// its peers by then. If ctx ends before, nothing runs.
func Start(ctx context.Context, c Config) (*Member, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	config, err := c.etcd()
	if err != nil {
		return nil, fmt.Errorf("member %q: %w", c.Name, err)
	}
	m := &Member{}
	logger := zap.NewNop()
	if c.Log != "" {
		if m.log, err = os.OpenFile(c.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
			return nil, fmt.Errorf("member %q: %w", c.Name, err)
		}
		logger = zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), m.log, zap.WarnLevel))
	}
	config.ZapLoggerBuilder = embed.NewZapLoggerBuilder(logger)
	if m.etcd, err = embed.StartEtcd(config); err != nil {
		return nil, errors.Join(fmt.Errorf("member %q: %w", c.Name, err), m.closeLog())
	}
	select {
	case <-m.etcd.Server.ReadyNotify():
		return m, nil
	case <-m.etcd.Server.StopNotify():
		err = errors.New("it stopped")
	case err = <-m.etcd.Err():
	case <-ctx.Done():
		err = fmt.Errorf("no majority of its peers: %w", ctx.Err())
	}
	// Close alone would wait for the member to serve.
	m.etcd.Server.HardStop()
	return nil, errors.Join(fmt.Errorf("member %q: %w", c.Name, err), m.Close())
}

// Leads reports whether the member is the leader now.
func (m *Member) Leads() bool { return m.etcd.Server.Leader() == m.etcd.Server.MemberID() }

// Done is closed when the member has stopped, by itself or for it was closed.
func (m *Member) Done() <-chan struct{} { return m.etcd.Server.StopNotify() }

// Close stops the member, and returns when nothing of it runs.
func (m *Member) Close() error {
	m.etcd.Close()
	return m.closeLog()
}

func (m *Member) closeLog() error {
	if m.log == nil {
		return nil
	}
	return m.log.Close()
}

// etcd checks c, and says it as etcd does.
func (c Config) etcd() (*embed.Config, error) {
	client, err := place("client", c.Client)
	if err != nil {
		return nil, err
	}
	peer, err := place("peer", c.Peer)
	if err != nil {
		return nil, err
	}
	if c.Name == "" || c.Dir == "" || c.Token == "" || c.CA == "" || c.Cert == "" || c.Key == "" {
		return nil, fmt.Errorf("%w: want a name, a directory, a token, a CA, a certificate and its key", bowline.ErrInvalid)
	}
	peers := c.Peers
	if peers == nil {
		peers = map[string]string{c.Name: c.Peer}
	}
	if peers[c.Name] != c.Peer {
		return nil, fmt.Errorf("%w: peers %v: want %s=%s among them", bowline.ErrInvalid, peers, c.Name, c.Peer)
	}
	config := embed.NewConfig()
	config.Name, config.Dir, config.InitialClusterToken = c.Name, c.Dir, c.Token
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	config.InitialCluster = initial(peers)
	if c.Join {
		config.ClusterState = embed.ClusterStateFlagExisting
	}
	config.ClientTLSInfo = transport.TLSInfo{TrustedCAFile: c.CA, CertFile: c.Cert, KeyFile: c.Key, ClientCertAuth: true}
	config.PeerTLSInfo = config.ClientTLSInfo
	config.TlsMinVersion = "TLS1.3"
	config.EnableGRPCGateway = false // nobody asks it by JSON
	config.AutoCompactionMode, config.AutoCompactionRetention = embed.CompactorModePeriodic, retention
	if c.Heartbeat != 0 {
		config.TickMs = uint(c.Heartbeat / time.Millisecond)
		config.ElectionMs = 10 * config.TickMs
	}
	if c.Quick {
		config.UnsafeNoFsync, config.BcryptCost = true, 4 // the least that there is
	}
	return config, nil
}

func place(what, text string) (url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.Port() == "" || u.Path != "" {
		return url.URL{}, fmt.Errorf("%w: %s address %q: want https://HOST:PORT", bowline.ErrInvalid, what, text)
	}
	return *u, nil
}

// initial writes peers as etcd reads them.
func initial(peers map[string]string) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(peers)) {
		all = append(all, name+"="+peers[name])
	}
	return strings.Join(all, ",")
}
