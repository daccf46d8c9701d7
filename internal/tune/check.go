package tune

import (
	"context"
	"errors"
	"strconv"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
)

// Diff returns what of o is not so on the link of that name in the sandbox. It
// looks only if o asks for something. Settings are compared by who made them,
// the face.
func (o Options) Diff(ctx context.Context, sandbox bowline.Namespace, name string) ([]bowline.Difference, error) {
	if sandbox == nil || o.Promisc == nil && o.AllMulti == nil && o.TxQLen == nil {
		return nil, nil
	}
	h, err := link.Open(sandbox)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	place := "sandbox link " + name
	have, err := h.Tuning(ctx, name)
	if errors.Is(err, bowline.ErrUnknown) {
		return []bowline.Difference{{Place: place, Key: "name", Want: name}}, nil
	}
	if err != nil {
		return nil, err
	}
	var ds []bowline.Difference
	differ := func(place, key, have, want string) {
		if have != want {
			ds = append(ds, bowline.Difference{Place: place, Key: key, Have: have, Want: want})
		}
	}
	if o.Promisc != nil {
		differ(place, "promisc", strconv.FormatBool(have.Promisc), strconv.FormatBool(*o.Promisc))
	}
	if o.AllMulti != nil {
		differ(place, "allmulti", strconv.FormatBool(have.AllMulti), strconv.FormatBool(*o.AllMulti))
	}
	if o.TxQLen != nil {
		differ(place, "txQLen", strconv.Itoa(*have.TxQLen), strconv.Itoa(*o.TxQLen))
	}
	return ds, nil
}
