package etcd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/cluster"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestConfig(t *testing.T) {
	t.Parallel()
	not := filepath.Join(t.TempDir(), "not.pem")
	if err := os.WriteFile(not, []byte("no PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	plain, secure := []string{"http://127.0.0.1:2379"}, []string{"https://127.0.0.1:2379"}
	for _, tt := range []struct {
		c    Config
		want string // in the error, none if empty
	}{
		{Config{Endpoints: plain}, ""},
		{Config{}, "want at least one endpoint"},
		{Config{Endpoints: []string{"127.0.0.1:2379"}}, `endpoint "127.0.0.1:2379": want http://HOST:PORT`},
		{Config{Endpoints: []string{"http://127.0.0.1"}}, "want http://HOST:PORT"},
		{Config{Endpoints: []string{"http://127.0.0.1:2379/v3"}}, "want http://HOST:PORT"},
		{Config{Endpoints: secure}, "with https if there are certificates"},
		{Config{Endpoints: append(secure, plain...), CA: not, Cert: not, Key: not}, `endpoint "http://127.0.0.1:2379": want https://HOST:PORT`},
		{Config{Endpoints: plain, User: "u", Password: "p"}, `user "u": want a name and a password, with https`},
		{Config{Endpoints: secure, User: "u", CA: not}, "want a name and a password"},
		{Config{Endpoints: secure, Cert: not, Key: not}, "CA: open : no such file"},
		{Config{Endpoints: secure, CA: not}, "want certificates as PEM"},
	} {
		_, err := tt.c.client()
		if tt.want == "" {
			if err != nil {
				t.Errorf("%+v: %v", tt.c, err)
			}
			continue
		}
		if !errors.Is(err, bowline.ErrInvalid) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: error is %v, want %v that says %q", tt.c, err, bowline.ErrInvalid, tt.want)
		}
		if _, dialed := Dial(t.Context(), tt.c); fmt.Sprint(dialed) != fmt.Sprint(err) {
			t.Errorf("dial says %v, want %v", dialed, err)
		}
	}
}

func TestTooOld(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]error{
		"3.5.8": nil, "3.5.21": nil, "3.6.0": nil, "3.7.3": nil, "4.0.0": nil, "3.6.0-rc.1": nil,
		"3.5.7": bowline.ErrInvalid, "3.4.30": bowline.ErrInvalid, "2.3.8": bowline.ErrInvalid, "": bowline.ErrInvalid, "new": bowline.ErrInvalid,
	} {
		if err := tooOld(version); !errors.Is(err, want) {
			t.Errorf("version %q: %v, want %v", version, err, want)
		}
	}
}

func TestCause(t *testing.T) {
	t.Parallel()
	other := errors.New("other")
	for _, tt := range []struct{ err, want error }{
		{rpctypes.ErrGRPCCompacted, cluster.ErrCompacted},
		{rpctypes.ErrCompacted, cluster.ErrCompacted},
		{rpctypes.ErrGRPCLeaseNotFound, cluster.ErrLeaseLost},
		{rpctypes.ErrGRPCFutureRev, bowline.ErrUnknown},
		{rpctypes.ErrGRPCNoSpace, bowline.ErrUnavailable},
		{rpctypes.ErrGRPCNoLeader, bowline.ErrUnavailable},
		{rpctypes.ErrGRPCLeaderChanged, bowline.ErrUnavailable},
		{rpctypes.ErrGRPCTimeout, bowline.ErrUnavailable},
		{rpctypes.ErrGRPCAuthFailed, bowline.ErrInvalid},
		{rpctypes.ErrGRPCPermissionDenied, bowline.ErrInvalid},
		{rpctypes.ErrGRPCRequestTooLarge, bowline.ErrInvalid},
		{rpctypes.ErrGRPCRequestTooManyRequests, bowline.ErrUnavailable},
		{status.Error(codes.Unavailable, "connection refused"), bowline.ErrUnavailable},
		{status.Error(codes.DeadlineExceeded, "the server's"), bowline.ErrUnavailable},
		{context.DeadlineExceeded, bowline.ErrUnavailable},
		{other, other},
	} {
		got := cause(tt.err)
		if !errors.Is(got, tt.want) {
			t.Errorf("%v: %v, want %v", tt.err, got, tt.want)
		}
		if errors.Is(got, context.DeadlineExceeded) {
			t.Errorf("%v looks like the caller's deadline", got)
		}
	}
}

// TestNobody dials where nobody listens.
func TestNobody(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := Dial(ctx, Config{Endpoints: []string{"http://127.0.0.1:1"}})
	if !errors.Is(err, bowline.ErrUnavailable) || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("error is %v", err)
	}
}

// TestBatch reads what a member may say, by a stream that has come to 10.
func TestBatch(t *testing.T) {
	t.Parallel()
	header := func(n int64) *pb.ResponseHeader { return &pb.ResponseHeader{ClusterId: 1, RaftTerm: 2, Revision: n} }
	put := &clientv3.Event{Type: clientv3.EventTypePut, Kv: &mvccpb.KeyValue{Key: []byte("/a"), Value: []byte("1"), ModRevision: 11}}
	gone := &clientv3.Event{Type: clientv3.EventTypeDelete, Kv: &mvccpb.KeyValue{Key: []byte("/b"), ModRevision: 12}}
	for _, tt := range []struct {
		name string
		says clientv3.WatchResponse
		want int64
	}{
		{"created, with more to come", clientv3.WatchResponse{Header: header(50), Created: true}, 10},
		{"created, by a store that is behind", clientv3.WatchResponse{Header: header(8), Created: true}, 8},
		{"events, with more to come", clientv3.WatchResponse{Header: header(50), Events: []*clientv3.Event{put, gone}}, 12},
		{"progress", clientv3.WatchResponse{Header: header(50)}, 50},
	} {
		b := (&stream{after: 10}).batch(tt.says)
		if want := (cluster.Head{Cluster: 1, Term: 2, Revision: tt.want}); b.Head != want || len(b.Steps) != len(tt.says.Events) {
			t.Errorf("%s: %+v, want a head of %+v", tt.name, b, want)
		}
		if want := []cluster.Step{{Key: "/a", Entry: cluster.Entry{Value: "1", Modified: 11}}, {Key: "/b"}}; len(b.Steps) > 0 && !slices.Equal(b.Steps, want) {
			t.Errorf("%s: steps are %+v, want %+v", tt.name, b.Steps, want)
		}
	}
}
