package etcd

import (
	"context"
	"strings"

	"github.com/bowline-net/bowline/internal/cluster"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Commit does what [cluster.Store] says.
func (s *Store) Commit(ctx context.Context, t cluster.Txn) (cluster.Result, error) {
	if err := t.Valid(); err != nil {
		return cluster.Result{}, err
	}
	if err := s.usable(ctx); err != nil {
		return cluster.Result{}, err
	}
	var checks []clientv3.Cmp
	var look, ops []clientv3.Op
	for _, c := range t.If {
		checks = append(checks, clientv3.Compare(clientv3.ModRevision(c.Key), "=", c.Entry.Modified))
		if c.Entry.Exists() {
			checks = append(checks, clientv3.Compare(clientv3.Value(c.Key), "=", c.Entry.Value))
		}
		look = append(look, clientv3.OpGet(c.Key))
	}
	for _, o := range t.Then {
		if o.Delete {
			ops = append(ops, clientv3.OpDelete(o.Key))
		} else {
			ops = append(ops, clientv3.OpPut(o.Key, o.Value, clientv3.WithLease(clientv3.LeaseID(o.Lease))))
		}
	}
	r, err := s.client.Txn(ctx).If(checks...).Then(ops...).Else(look...).Commit()
	if err != nil {
		return cluster.Result{}, s.explain(ctx, "commit", err)
	}
	result := cluster.Result{Head: head(r.Header), Committed: r.Succeeded}
	if !r.Succeeded {
		result.Found = map[string]cluster.Entry{}
		for _, answer := range r.Responses {
			for _, kv := range answer.GetResponseRange().GetKvs() {
				result.Found[string(kv.Key)] = entry(kv)
			}
		}
	}
	return result, nil
}

// List does what [cluster.Source] says.
func (s *Store) List(ctx context.Context, at string, revision int64) (cluster.View, error) {
	if err := cluster.ValidList(at, revision); err != nil {
		return cluster.View{}, err
	}
	if err := s.usable(ctx); err != nil {
		return cluster.View{}, err
	}
	r, err := s.client.Get(ctx, at, append(span(at), clientv3.WithRev(revision))...)
	if err != nil {
		return cluster.View{}, s.explain(ctx, "list "+at, err)
	}
	view := cluster.View{Head: head(r.Header), Entries: make(map[string]cluster.Entry, len(r.Kvs))}
	if revision != 0 {
		view.Head.Revision = revision
	}
	for _, kv := range r.Kvs {
		view.Entries[string(kv.Key)] = entry(kv)
	}
	return view, nil
}

// Watch does what [cluster.Store] says.
func (s *Store) Watch(at string, known cluster.View) *cluster.Watch {
	return cluster.Follow(s, at, known)
}

// span returns what makes a key a range, if at is one.
func span(at string) []clientv3.OpOption {
	if strings.HasSuffix(at, "/") {
		return []clientv3.OpOption{clientv3.WithPrefix()}
	}
	return nil
}

func head(h *pb.ResponseHeader) cluster.Head {
	return cluster.Head{Cluster: h.GetClusterId(), Term: h.GetRaftTerm(), Revision: h.GetRevision()}
}

func entry(kv *mvccpb.KeyValue) cluster.Entry {
	return cluster.Entry{Value: string(kv.Value), Modified: kv.ModRevision}
}
