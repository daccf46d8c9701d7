package etcd

import (
	"context"
	"errors"
	"fmt"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/cluster"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// explain returns err as [cluster.Store] promises it.
func (s *Store) explain(ctx context.Context, what string, err error) error {
	if why := s.usable(ctx); why != nil {
		return fmt.Errorf("%s: %w", what, why)
	}
	return fmt.Errorf("%s: %w", what, cause(err))
}

// cause wraps what callers tell apart around what etcd or gRPC said.
func cause(err error) error {
	err = rpctypes.Error(err)
	switch {
	case errors.Is(err, rpctypes.ErrCompacted):
		return cluster.ErrCompacted
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return cluster.ErrLeaseLost
	case errors.Is(err, rpctypes.ErrFutureRev):
		return fmt.Errorf("%w: %w", bowline.ErrUnknown, err)
	case errors.Is(err, rpctypes.ErrNoSpace), errors.Is(err, rpctypes.ErrTooManyRequests):
		return fmt.Errorf("%w: %w", bowline.ErrUnavailable, err)
	}
	code := status.Code(err)
	var said rpctypes.EtcdError
	if errors.As(err, &said) {
		code = said.Code()
	}
	switch code {
	case codes.InvalidArgument, codes.Unauthenticated, codes.PermissionDenied, codes.FailedPrecondition, codes.ResourceExhausted:
		return fmt.Errorf("%w: %w", bowline.ErrInvalid, err)
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Internal:
		// A deadline that is not the caller's is the server's, or the token's.
		return fmt.Errorf("%w: %w", bowline.ErrUnavailable, err)
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		// Nor is one of the client's own: it must not look like the caller's.
		return fmt.Errorf("%w: %w", bowline.ErrUnavailable, errors.New(err.Error()))
	}
	return err
}
