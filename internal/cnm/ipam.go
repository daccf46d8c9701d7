package cnm

import (
	"log/slog"

	"github.com/bowline-net/bowline/internal/socket"
)

// An IPAMDriver lets Docker use the allocator.
type IPAMDriver struct{}

func (d *IPAMDriver) register(m *socket.Mux, log *slog.Logger) {}
